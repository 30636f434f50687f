"""The one number that says how good a run's result is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlkit.reports.run_data import MetricRow, RunData

ENDS = 5
"""Steps over which a noisy training metric is averaged."""


@dataclass(frozen=True)
class KeyMetric:
    """name of the metric, its value after `step` steps, and the 95 % interval where there is one."""

    name: str
    step: int
    value: float
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        bounds = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.label} {self.value:.3f}{bounds}"

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name)


LABELS = {
    "validation/score": "validation",
    "sft/validation_loss": "validation loss",
    "reward/mean": "reward",
    "sft/loss": "loss",
    "generate/answers_per_s": "answers/s",
}


def key_metric(run: RunData) -> KeyMetric | None:
    """The last validation's score or loss; without validations the mean of the last steps' reward or loss; None without any."""
    for name in ("validation/score", "sft/validation_loss"):
        found = metric_at_end(run.validations, name)
        if found is not None:
            return found
    for name in ("reward/mean", "sft/loss", "generate/answers_per_s"):
        rows = [row for row in run.steps if name in row.values][-ENDS:]
        if rows:
            return KeyMetric(name, rows[-1].step, sum(row.values[name] for row in rows) / len(rows))
    return None


def metric_at_end(rows: Sequence[MetricRow], name: str) -> KeyMetric | None:
    """The last value of a metric, with the interval that the run gave it."""
    found = [row for row in rows if name in row.values]
    if not found:
        return None
    values = found[-1].values
    return KeyMetric(name, found[-1].step, values[name], values.get(f"{name}_low"), values.get(f"{name}_high"))
