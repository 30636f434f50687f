"""How much is answered in a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_BATCHES = 8
"""Replicas work on several batches at once, which come out in bursts: fewer batches would not even that out."""


@dataclass
class AnswerRates:
    """Rates over the last `WINDOW_BATCHES` batches: what came out of them, by the time since the one before came out."""

    now: Callable[[], float] = time.monotonic
    _marks: deque[tuple[float, int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._marks = deque([(self.now(), 0, 0)], maxlen=WINDOW_BATCHES + 1)

    def batch_done(self, *, answers: int, tokens: int) -> None:
        _, all_answers, all_tokens = self._marks[-1]
        self._marks.append((self.now(), all_answers + answers, all_tokens + tokens))

    @property
    def answers_per_s(self) -> float:
        return (self._marks[-1][1] - self._marks[0][1]) / self._seconds

    @property
    def tokens_per_s(self) -> float:
        return (self._marks[-1][2] - self._marks[0][2]) / self._seconds

    @property
    def _seconds(self) -> float:
        return max(self._marks[-1][0] - self._marks[0][0], 1e-9)
