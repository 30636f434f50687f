"""The few numbers that a reader looks for first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from rlkit.reports.run_data import MetricRow, RunData, best_validation

ENDS = 5
"""Steps over which the beginning and the end of a noisy training metric are averaged."""


@dataclass(frozen=True)
class Tile:
    """before and now bound a change; low and high are the interval of `now`. unit as in `Chart`."""

    label: str
    note: str
    unit: str
    now: float
    before: float | None = None
    low: float | None = None
    high: float | None = None
    before_low: float | None = None
    before_high: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def build_tiles(data: RunData) -> list[Tile]:
    """Those of the run's numbers that it has, the most telling first."""
    candidates = (
        _validation(data.validations, "validation/score", "Validation score", ""),
        _best_validation(data.validations),
        _validation(data.validations, "sft/validation_loss", "Validation loss", "nats"),
        _ends(data.steps, "reward/mean", "Reward", ""),
        _ends(data.steps, "sft/loss", "Training loss", "nats"),
        _ends(data.steps, "actor/kl_to_reference", "KL from reference", "nats"),
        _ends(data.steps, "response/length_mean", "Answer length", "tokens"),
        _typical(data.steps, "time/step_s", "Step", "s"),
        _typical(data.steps, "rollout/tokens_per_s", "Rollout throughput", "tokens/s"),
        _typical(data.steps, "throughput/tokens_per_s", "Throughput of a step", "tokens/s"),
        _use_of_the_device(data.steps),
    )
    return [tile for tile in candidates if tile is not None]


def _validation(rows: Sequence[MetricRow], metric: str, label: str, unit: str) -> Tile | None:
    found = [row for row in rows if metric in row.values]
    if not found:
        return None
    first, last = found[0], found[-1]
    changed = len(found) > 1
    return Tile(
        label,
        f"step {first.step} to {last.step}" if changed else f"after step {last.step}",
        unit,
        now=last.values[metric],
        before=first.values[metric] if changed else None,
        low=last.values.get(f"{metric}_low"),
        high=last.values.get(f"{metric}_high"),
        before_low=first.values.get(f"{metric}_low") if changed else None,
        before_high=first.values.get(f"{metric}_high") if changed else None,
    )


def _best_validation(rows: Sequence[MetricRow]) -> Tile | None:
    """Where it is not the last one."""
    best = best_validation(rows)
    if best is None or best.step == rows[-1].step:
        return None
    return Tile("Best validation score", f"at step {best.step}", "", now=best.score, low=best.low, high=best.high)


def _ends(rows: Sequence[MetricRow], metric: str, label: str, unit: str) -> Tile | None:
    found = [row for row in rows if metric in row.values]
    values = [row.values[metric] for row in found]
    if not values:
        return None
    if len(values) == 1:
        return Tile(label, f"after step {found[0].step}", unit, now=values[0])
    if len(values) < 2 * ENDS:
        return Tile(label, "first to last step", unit, now=values[-1], before=values[0])
    note = f"mean of the first and last {ENDS} steps"
    return Tile(label, note, unit, now=sum(values[-ENDS:]) / ENDS, before=sum(values[:ENDS]) / ENDS)


def _typical(rows: Sequence[MetricRow], metric: str, label: str, unit: str) -> Tile | None:
    values = [row.values[metric] for row in rows if metric in row.values]
    return Tile(label, "median", unit, now=median(values)) if values else None


def _use_of_the_device(rows: Sequence[MetricRow]) -> Tile | None:
    tile = _typical(rows, "perf/mfu", "Device use (MFU)", "share")
    measured = any(row.values.get("perf/peak_is_measured") for row in rows)
    return replace(tile, note="median, of a measured peak") if tile is not None and measured else tile
