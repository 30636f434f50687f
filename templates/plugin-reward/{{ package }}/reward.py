"""The reward: is the number right, and is it marked as the answer?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlkit.types import Reward, Sample

from .options import NumberRewardOptions

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class NumberReward:
    """1 for the right number, plus a bonus for the marker. Built once in each worker process, called with answers."""

    judges_apart = True  # no verdict depends on the other answers: several workers may share a batch

    def __init__(self, options: NumberRewardOptions) -> None:
        self.options = options

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        """One verdict for each sample, in order. Must not raise for a single odd answer: it says so in `error`."""
        return [self.judge(sample) for sample in samples]

    def judge(self, sample: Sample) -> Reward:
        expected = last_number(str(sample.prompt.reference))
        if expected is None:
            return Reward(0.0, error=f"reference {sample.prompt.reference!r} of row {sample.prompt.row_id} has no number")
        _, marker, behind = sample.response.rpartition(self.options.marker)
        found = last_number(behind)
        marked = float(bool(marker) and bool(self.options.marker))
        close = found is not None and abs(found - expected) <= self.options.tolerance * max(1.0, abs(expected))
        score = float(close) + self.options.marker_bonus * marked
        return Reward(score, parts={"correct": float(close), "marked": marked})


def last_number(text: str) -> float | None:
    """The last number in `text`, thousands separators allowed."""
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None
