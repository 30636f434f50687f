"""One set of metrics from those of several optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping

LAST_VALUE = frozenset({"lr", "skipped_steps"})
"""Metrics of which the newest value is told, not the mean."""


class Average:
    """Mean of each metric over the optimizer steps that reported it."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name.rpartition("/")[2] in LAST_VALUE:
                self._sums[name], self._counts[name] = value, 1
            else:
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def result(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}
