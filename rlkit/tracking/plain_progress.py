"""One line now and then, for logs and terminals that cannot redraw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.tracking.headline_metrics import PLAIN_LIMIT, headlines, validation_line, write_seconds
from rlkit.tracking.pace import Pace
from rlkit.tracking.summary_line import finish_line, start_line

INTERVAL_S = 2.0
"""Seconds between two step lines: a log should be readable, whatever the speed."""


class PlainProgress:
    """The first and the last step always, others at most every `INTERVAL_S`; validations and checkpoints always."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._pace: Pace | None = None
        self._last_line = -INTERVAL_S

    def start(self, run: RunInfo) -> None:
        self._pace = Pace(run.total_steps, run.first_step, self._now)
        self._print(start_line(run))

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        assert self._pace is not None, "run_started comes first"
        self._pace.step_done(step)
        edge = step in (run.first_step + 1, run.total_steps)
        if not edge and self._now() - self._last_line < INTERVAL_S:
            return
        self._last_line = self._now()
        shown = "  ".join(f"{label} {value}" for label, value in headlines(run.kind, metrics)[:PLAIN_LIMIT])
        remaining = self._pace.remaining_s or 0.0
        width = len(str(run.total_steps))
        self._print(f"step {step:>{width}}/{run.total_steps}  {shown}  eta {write_seconds(remaining)}")

    def validation(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._print(f"validation after step {step}: {validation_line(metrics)}")

    def checkpoint(self, run: RunInfo, step: int, folder: Path) -> None:
        self._print(f"checkpoint {folder}")

    def notice(self, message: str) -> None:
        self._print(message)

    def warning(self, message: str) -> None:
        self._print(f"warning: {message}")

    def finish(self, run: RunInfo, status: RunStatus) -> None:
        assert self._pace is not None, "run_started comes first"
        self._print(finish_line(run, status, self._pace.elapsed_s))

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
