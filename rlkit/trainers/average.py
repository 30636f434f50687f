"""One set of metrics from those of several optimizer steps.

.../lr, .../skipped_steps     the newest: a setting, and a count of the whole run
..._min, ..._max              the smallest, the largest
.../grad_norm                 mean over the steps whose norm is finite; the others are counted in skipped_steps
all others                    means over the tokens of a mini-batch, hence weighted by its tokens
"""

from __future__ import annotations

import math
from collections.abc import Mapping

LAST_VALUE = frozenset({"lr", "skipped_steps"})
OF_STEPS = frozenset({"grad_norm"})


class Average:
    """Takes each optimizer step's metrics; a metric that some steps lack is combined over those that have it."""

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[float, float]]] = {}

    def add(self, metrics: Mapping[str, float], *, tokens: float) -> None:
        """Metrics of one optimizer step on `tokens` tokens that count in the loss."""
        for name, value in metrics.items():
            self._values.setdefault(name, []).append((value, tokens))

    def result(self) -> dict[str, float]:
        return {name: _combined(name, values) for name, values in self._values.items()}


def _combined(name: str, values: list[tuple[float, float]]) -> float:
    last_part = name.rpartition("/")[2]
    numbers = [value for value, _ in values]
    if last_part in LAST_VALUE:
        return numbers[-1]
    if last_part.endswith("_max"):
        return max(numbers)
    if last_part.endswith("_min"):
        return min(numbers)
    if last_part in OF_STEPS:
        finite = [number for number in numbers if math.isfinite(number)]
        return sum(finite) / len(finite) if finite else numbers[-1]
    weights = [weight for _, weight in values]
    if sum(weights) == 0:
        weights = [1.0] * len(values)
    return sum(number * weight for number, weight in zip(numbers, weights, strict=True)) / sum(weights)
