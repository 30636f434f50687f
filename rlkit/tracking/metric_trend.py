"""How a headline metric has moved: its last values, and what changed since the step before."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence

KEPT = 400
"""Values of a metric that are remembered."""
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-~="
"""Where the terminal's encoding has no bars."""


class MetricTrends:
    """The last `KEPT` values of every metric that is shown."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}

    def note(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step."""
        for name, value in metrics.items():
            self._values.setdefault(name, deque(maxlen=KEPT)).append(value)

    def values(self, name: str) -> Sequence[float]:
        """Oldest first."""
        return tuple(self._values.get(name, ()))

    def change(self, name: str) -> float | None:
        """The last value minus the one before; None before the second and for what is not finite."""
        values = self._values.get(name)
        if values is None or len(values) < 2:
            return None
        difference = values[-1] - values[-2]
        return difference if math.isfinite(difference) else None


def sparkline(values: Sequence[float], width: int, *, bars: str = BARS) -> str:
    """At most `width` bars from the smallest to the largest value; more values are averaged in equal stretches, equal ones are a flat line."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2 or width < 2:
        return ""
    points = known if len(known) <= width else _means(known, width)
    low, high = min(points), max(points)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        return bars[len(bars) // 2 - 1] * len(points)
    top = len(bars) - 1
    return "".join(bars[round((value - low) / (high - low) * top)] for value in points)


def _means(values: Sequence[float], count: int) -> list[float]:
    edges = [round(at * len(values) / count) for at in range(count + 1)]
    return [math.fsum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
