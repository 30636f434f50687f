"""How long the stages of a step take, and how much they get done in that time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StageWork:
    """seconds, tokens and floating-point operations of one stage; a stage entered twice adds up."""

    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0


class StageClock:
    """Seconds of each stage of one step, as `time/<stage>_s`, and the work that was noted for it."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, StageWork] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._of(name).seconds += time.perf_counter() - start

    def note_work(self, name: str, *, tokens: int, flops: float = 0.0) -> None:
        """Stage `name` has worked on `tokens` (more) tokens with `flops` operations."""
        stage = self._of(name)
        stage.tokens += tokens
        stage.flops += flops

    def seconds(self, name: str) -> float:
        return self._stages[name].seconds if name in self._stages else 0.0

    def stages(self) -> Mapping[str, StageWork]:
        """All stages so far, by name."""
        return self._stages

    def step_seconds(self) -> float:
        """Since the clock was made: with what lies between the stages."""
        return time.perf_counter() - self._start

    def metrics(self) -> dict[str, float]:
        """All stages so far and the whole step."""
        stages = {f"time/{name}_s": stage.seconds for name, stage in self._stages.items()}
        return {**stages, "time/step_s": self.step_seconds()}

    def _of(self, name: str) -> StageWork:
        return self._stages.setdefault(name, StageWork())
