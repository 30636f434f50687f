"""Which curves are drawn, from which metrics."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlkit.reports.chart_plans import IN_OTHER_CHARTS, LOSS, ONLY_WHEN_IT_HAPPENED, PLANS, Group
from rlkit.reports.run_data import MetricRow, RunData, best_validation
from rlkit.tracking.metric_table import find_metric

MAX_POINTS = 1_200
"""Points of a curve; longer ones are averaged in equal stretches."""

UNITS = frozenset({"", "s", "bytes", "tokens", "tokens/s", "nats", "share"})
"""Units that the page knows how to write."""

ChartKind = Literal["lines", "stack"]


@dataclass(frozen=True)
class Series:
    """One curve. low and high bound a band (steps) or error bars (validations), empty for none."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Chart:
    """kind "stack" lays the series on one another; markers draws each point. unit: one of `UNITS`."""

    group: Group
    title: str
    note: str
    unit: str
    series: tuple[Series, ...]
    kind: ChartKind = "lines"
    markers: bool = False
    ring: int | None = None  # step of the first series that is to stand out

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {
            "group": self.group,
            "title": self.title,
            "note": self.note,
            "unit": self.unit,
            "kind": self.kind,
            "markers": self.markers,
            "series": [
                {
                    "name": s.name,
                    "x": s.steps,
                    "y": _short(s.values),
                    "low": _short(s.low),
                    "high": _short(s.high),
                    "ring": self.ring if at == 0 else None,
                }
                for at, s in enumerate(self.series)
            ],
        }


def build_charts(data: RunData) -> list[Chart]:
    """Every chart that the run has the metrics for; metrics of plugins that nobody planned come last, one chart each."""
    special = (
        _validation_chart(data.validations),
        _several_answers_chart(data.validations),
        _loss_chart(data),
        _reward_chart(data.steps),
        _parts_chart(data.steps),
        *_planned_charts(data.steps),
        _stages_chart(data.steps),
    )
    return [*(chart for chart in special if chart is not None), *_other_charts(data)]


def step_time_chart(rows: Sequence[MetricRow]) -> Chart | None:
    """What stands for the stages where several runs share a chart."""
    series = _series("step", rows, "time/step_s")
    return None if series is None else Chart("speed", "Time of a step", "the whole step", "s", (series,))


def _planned_charts(rows: Sequence[MetricRow]) -> list[Chart]:
    charts = []
    for plan in PLANS:
        found = [_series(name, rows, metric) for metric, name in plan.metrics.items()]
        drawn = tuple(series for series in found if series is not None)
        happened = any(any(series.values) for series in drawn)
        if plan is LOSS or not drawn or (plan.title in ONLY_WHEN_IT_HAPPENED and not happened):
            continue
        charts.append(Chart(plan.group, plan.title, plan.note, plan.unit, drawn))
    return charts


def _other_charts(data: RunData) -> list[Chart]:
    """One chart for each metric that has no place; one that was always zero has nothing to show."""
    planned = {metric for plan in PLANS for metric in plan.metrics}
    charts = []
    for metric in data.metric_names():
        series = _series(metric.rpartition("/")[2].replace("_", " "), data.steps, metric)
        if (
            metric not in planned
            and not metric.startswith(IN_OTHER_CHARTS)
            and series is not None
            and any(series.values)
        ):
            entry = find_metric(metric)
            unit = entry.unit if entry is not None and entry.unit in UNITS else ""
            charts.append(Chart("other", metric, "" if entry is None else entry.meaning, unit, (series,)))
    return charts


def _validation_chart(rows: Sequence[MetricRow]) -> Chart | None:
    score = _bounded_series("all", rows, "validation/score")
    if score is None:
        return None
    others = [_bounded_series(source, rows, f"validation/{source}/score") for source in _validated_sources(rows)]
    series = (score, *(item for item in others if item is not None))
    note = "mean over held-out prompts"
    if any(value is not None for value in score.low):
        note += ", with 95 % intervals"
    best = best_validation(rows)
    if best is not None:
        note += f"; best at step {best.step}"
    return Chart(
        "learning", "Validation score", note, "", series, markers=True, ring=None if best is None else best.step
    )


def _several_answers_chart(rows: Sequence[MetricRow]) -> Chart | None:
    """pass@k and majority voting; pass@1 is the score."""
    found = re.compile(r"validation/(pass|maj)_at_(\d+)")
    names = {name: match for row in rows for name in row.values if (match := found.fullmatch(name))}
    wanted = sorted((match[1] == "maj", int(match[2]), name) for name, match in names.items() if match[2] != "1")
    made = [_bounded_series(f"{'maj' if voted else 'pass'}@{k}", rows, name) for voted, k, name in wanted]
    series = tuple(item for item in made if item is not None)
    note = "over held-out prompts, with 95 % intervals"
    return Chart("learning", "Several answers to a prompt", note, "", series, markers=True) if series else None


def _validated_sources(rows: Sequence[MetricRow]) -> list[str]:
    """Data sources that have a validation score; a named part of the reward may be called score too."""
    names = {name for row in rows for name in row.values if "/part/" not in name}
    scores = (name for name in names if name.startswith("validation/") and name.endswith("/score"))
    return sorted(name.removeprefix("validation/").removesuffix("/score") for name in scores if name.count("/") > 1)


def _loss_chart(data: RunData) -> Chart | None:
    series = (_series("training", data.steps, "sft/loss"), _series("held-out", data.validations, "sft/validation_loss"))
    drawn = tuple(item for item in series if item is not None)
    return Chart(LOSS.group, LOSS.title, LOSS.note, LOSS.unit, drawn) if drawn else None


def _reward_chart(rows: Sequence[MetricRow]) -> Chart | None:
    """The mean with a band of one standard deviation, kept within the smallest and largest reward; right or wrong has no band."""
    rows = [row for row in rows if "reward/mean" in row.values]
    if not rows:
        return None

    def bound(sign: int) -> tuple[float | None, ...]:
        edge = "reward/min" if sign < 0 else "reward/max"
        within: Callable[..., float] = max if sign < 0 else min
        bounds = []
        for row in rows:
            value = row.values["reward/mean"] + sign * row.values.get("reward/std", 0.0)
            bounds.append(within(value, row.values[edge]) if edge in row.values else value)
        return tuple(bounds)

    values = tuple(row.values["reward/mean"] for row in rows)
    series = Series("mean", tuple(row.step for row in rows), values)
    note = "mean over the answers of a step"
    if any("reward/std" in row.values for row in rows) and not all(_is_right_or_wrong(row) for row in rows):
        series = replace(series, low=bound(-1), high=bound(+1))
        note = "mean of a step's answers, one standard deviation around"
    learned = _learned_reward(rows)
    return Chart("learning", "Reward", note, "", (_thinned(series), *(() if learned is None else (learned,))))


def _learned_reward(rows: Sequence[MetricRow]) -> Series | None:
    """The reward after shaping and KL penalty, where that makes a difference."""
    series = _series("after shaping and KL", rows, "reward/total_mean")
    totals = (
        (row.values["reward/mean"], row.values.get("reward/total_mean", row.values["reward/mean"])) for row in rows
    )
    if all(math.isclose(score, total, rel_tol=1e-4, abs_tol=1e-6) for score, total in totals):
        return None
    return series


def _is_right_or_wrong(row: MetricRow) -> bool:
    """Rewards are (nearly) all 0 or 1: between 0 and 1 only those reach the variance mean * (1 - mean)."""
    low, high, mean = (row.values.get(f"reward/{name}", math.nan) for name in ("min", "max", "mean"))
    deviation = row.values.get("reward/std", math.nan)
    return low >= 0 and high <= 1 and deviation**2 >= 0.95 * mean * (1 - mean)


def _parts_chart(rows: Sequence[MetricRow]) -> Chart | None:
    prefix = "reward/part/"
    names = sorted({name for row in rows for name in row.values if name.startswith(prefix)})
    series = tuple(item for name in names if (item := _series(name.removeprefix(prefix), rows, name)) is not None)
    return Chart("learning", "Reward parts", "mean of each part", "", series) if len(series) > 1 else None


def stage_totals(rows: Sequence[MetricRow]) -> list[tuple[str, float]]:
    """Seconds of each stage over all steps, the longest first; what no stage accounts for is called other."""
    return [(series.name, math.fsum(value or 0.0 for value in series.values)) for series in _stages(rows)]


def _stages_chart(rows: Sequence[MetricRow]) -> Chart | None:
    series = tuple(_thinned(item) for item in _stages(rows))
    return Chart("speed", "Time by stage", "of each step", "s", series, kind="stack") if series else None


def _stages(rows: Sequence[MetricRow]) -> list[Series]:
    """Each stage's seconds by step, the longest stage first, and the rest of the step where there is any to speak of."""
    names = sorted(
        {name for row in rows for name in row.values if name.startswith("time/") and name != "time/step_s"},
        key=lambda name: -sum(row.values.get(name, 0.0) for row in rows),
    )
    if not names:
        return []
    steps = tuple(row.step for row in rows)
    series = [Series(_stage_name(name), steps, tuple(row.values.get(name, 0.0) for row in rows)) for name in names]
    rest = [
        max(0.0, row.values.get("time/step_s", 0.0) - sum(row.values.get(name, 0.0) for name in names)) for row in rows
    ]
    if sum(rest) > 0.01 * sum(row.values.get("time/step_s", 0.0) for row in rows):
        series.append(Series("other", steps, tuple(rest)))
    return series


def _stage_name(metric: str) -> str:
    return metric.removeprefix("time/").removesuffix("_s").replace("_", " ")


def _bounded_series(name: str, rows: Sequence[MetricRow], metric: str) -> Series | None:
    return _series(name, rows, metric, low=f"{metric}_low", high=f"{metric}_high")


def _series(name: str, rows: Sequence[MetricRow], metric: str, *, low: str = "", high: str = "") -> Series | None:
    found = [row for row in rows if metric in row.values]
    if not found:
        return None

    def column(key: str) -> tuple[float | None, ...]:
        return tuple(row.values.get(key) for row in found) if key else ()

    return _thinned(
        Series(
            name,
            tuple(row.step for row in found),
            tuple(row.values[metric] for row in found),
            column(low),
            column(high),
        )
    )


def _thinned(series: Series) -> Series:
    """At most MAX_POINTS points: means over equal stretches, each at its last step."""
    count = len(series.steps)
    if count <= MAX_POINTS:
        return series
    edges = [round(position * count / MAX_POINTS) for position in range(MAX_POINTS + 1)]
    stretches = list(itertools.pairwise(edges))

    def means(values: Sequence[float | None]) -> tuple[float | None, ...]:
        return tuple(_mean(values[start:end]) for start, end in stretches) if values else ()

    steps = tuple(series.steps[end - 1] for _, end in stretches)
    return Series(series.name, steps, means(series.values), means(series.low), means(series.high))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _short(values: Sequence[float | None]) -> list[float | None]:
    """Six digits are enough for a picture."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
