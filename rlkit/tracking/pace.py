"""How fast a run goes and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SMOOTHING = 0.9
"""Weight of the past in the mean step time: about the last ten steps count."""


@dataclass
class Pace:
    """Moving mean of the time between steps. Validations and checkpoints in between count, as they will again."""

    total_steps: int
    first_step: int
    now: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _last: float = field(init=False)
    _mean: float = field(init=False, default=0.0)
    _step: int = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._last = self.now()
        self._step = self.first_step

    def step_done(self, step: int) -> None:
        now = self.now()
        took, self._last = now - self._last, now
        done = step - self.first_step
        # A plain mean at first, so that a slow first step does not own the estimate for long.
        past = min(SMOOTHING, (done - 1) / max(done, 1))
        self._mean = past * self._mean + (1 - past) * took
        self._step = step

    @property
    def elapsed_s(self) -> float:
        return self.now() - self._started

    @property
    def remaining_s(self) -> float | None:
        """None before the first step."""
        return None if self._step == self.first_step else (self.total_steps - self._step) * self._mean
