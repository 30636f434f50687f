"""Which curves are drawn, from which metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlkit.reports.run_data import MetricRow, RunData

MAX_POINTS = 1_200
"""Points of a curve; longer ones are averaged in equal stretches."""

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
    """kind "stack" lays the series on one another. unit: "", "s", "bytes", "tokens", "tokens/s", "nats", "share"."""

    title: str
    note: str
    unit: str
    series: tuple[Series, ...]
    kind: ChartKind = "lines"
    markers: bool = False

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {
            "title": self.title,
            "note": self.note,
            "unit": self.unit,
            "kind": self.kind,
            "markers": self.markers,
            "series": [
                {"name": s.name, "x": s.steps, "y": _short(s.values), "low": _short(s.low), "high": _short(s.high)}
                for s in self.series
            ],
        }


@dataclass(frozen=True)
class Plan:
    """A chart to be made when the run has one of its metrics; `metrics` maps metric names to what they are called."""

    title: str
    note: str
    unit: str
    metrics: Mapping[str, str]


PLANS = (
    Plan("Loss", "cross-entropy on answer tokens", "nats", {"sft/loss": "training"}),
    Plan(
        "KL divergence",
        "of the policy from",
        "nats",
        {"actor/kl_to_reference": "the reference", "actor/kl_to_old": "the policy that answered", "actor/kl": "KL"},
    ),
    Plan("Entropy", "of the policy, per token", "nats", {"actor/entropy": "entropy"}),
    Plan(
        "Clipped tokens",
        "share of tokens whose update was clipped",
        "share",
        {
            "actor/clip_fraction": "actor",
            "actor/dual_clip_fraction": "actor, dual clip",
            "critic/clip_fraction": "critic",
        },
    ),
    Plan(
        "Answer length",
        "tokens",
        "tokens",
        {"response/length_mean": "mean", "response/length_max": "longest"},
    ),
    Plan("Cut-off answers", "share that reached the token limit", "share", {"response/truncated_fraction": "cut off"}),
    Plan(
        "Gradient norm",
        "before clipping",
        "",
        {"actor/grad_norm": "actor", "critic/grad_norm": "critic", "sft/grad_norm": "model"},
    ),
    Plan("Policy loss", "", "", {"actor/policy_loss": "policy", "actor/kl_loss": "KL term", "actor/loss": "total"}),
    Plan("Critic loss", "", "", {"critic/loss": "critic"}),
    Plan("Critic", "explained variance of the returns; 1 is perfect", "", {"critic/explained_variance": "explained"}),
    Plan(
        "Engine against trainer",
        "difference of their log-probs; should stay near zero",
        "nats",
        {"rollout/log_prob_difference_mean": "mean", "rollout/log_prob_difference_max": "largest"},
    ),
    Plan(
        "Throughput",
        "tokens a second",
        "tokens/s",
        {"rollout/tokens_per_s": "rollouts", "throughput/tokens_per_s": "training"},
    ),
    Plan(
        "Memory",
        "peak so far",
        "bytes",
        {
            "memory/peak_bytes": "peak",
            "memory/process_peak_bytes": "process",
            "memory/device_peak_bytes": "device",
        },
    ),
    Plan(
        "Skipped updates",
        "so far, for gradients that were not finite",
        "",
        {"actor/skipped_steps": "actor", "critic/skipped_steps": "critic", "sft/skipped_steps": "model"},
    ),
    Plan("Learning rate", "", "", {"actor/lr": "actor", "critic/lr": "critic", "sft/lr": "model"}),
)

IN_OTHER_CHARTS = ("reward/", "time/", "sft/epoch", "rollout/policy_version")
"""Metrics drawn by a chart of their own kind, or not worth one."""


def build_charts(data: RunData) -> list[Chart]:
    """Every chart that the run has the metrics for; metrics of plugins that nobody planned come last, one chart each."""
    charts = [
        chart
        for chart in (
            _validation_chart(data.validations),
            _validation_loss_chart(data),
            _reward_chart(data.steps),
            _parts_chart(data.steps),
        )
        if chart is not None
    ]
    planned: set[str] = set()
    for plan in PLANS:
        planned |= plan.metrics.keys()
        if plan.title == "Loss" and any(chart.title == "Loss" for chart in charts):
            continue
        series = [_series(name, data.steps, metric) for metric, name in plan.metrics.items()]
        drawn = tuple(item for item in series if item is not None)
        if plan.title == "Skipped updates" and not any(any(item.values) for item in drawn):
            continue
        if drawn:
            charts.append(Chart(plan.title, plan.note, plan.unit, drawn))
    stages = _stages_chart(data.steps)
    if stages is not None:
        charts.append(stages)
    for metric in data.metric_names():
        series_of_metric = _series(metric, data.steps, metric)
        if metric in planned or metric.startswith(IN_OTHER_CHARTS) or series_of_metric is None:
            continue
        if any(series_of_metric.values):  # all zero: nothing has happened
            charts.append(Chart(metric, "", "", (replace(series_of_metric, name=metric.rpartition("/")[2]),)))
    return charts


def _validation_chart(rows: Sequence[MetricRow]) -> Chart | None:
    score = _series("all", rows, "validation/score", low="validation/score_low", high="validation/score_high")
    if score is None:
        return None
    names = {name for row in rows for name in row.values}
    sources = sorted(
        name for name in names if name.startswith("validation/") and name.endswith("/score") and name.count("/") == 2
    )
    others = [_series(name.split("/")[1], rows, name) for name in sources]
    series = (score, *(item for item in others if item is not None))
    return Chart("Validation score", "mean over held-out prompts, with 95 % intervals", "", series, markers=True)


def _validation_loss_chart(data: RunData) -> Chart | None:
    held_out = _series("held-out", data.validations, "sft/validation_loss")
    training = _series("training", data.steps, "sft/loss")
    series = tuple(item for item in (training, held_out) if item is not None)
    return Chart("Loss", "cross-entropy on answer tokens", "nats", series) if held_out is not None else None


def _reward_chart(rows: Sequence[MetricRow]) -> Chart | None:
    """The mean with a band of one standard deviation, kept within the smallest and largest reward."""
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
    series = Series("mean", tuple(row.step for row in rows), values, bound(-1), bound(+1))
    return Chart("Reward", "mean, with a band of one standard deviation", "", (_thinned(series),))


def _parts_chart(rows: Sequence[MetricRow]) -> Chart | None:
    prefix = "reward/part/"
    names = sorted({name for row in rows for name in row.values if name.startswith(prefix)})
    series = tuple(item for name in names if (item := _series(name.removeprefix(prefix), rows, name)) is not None)
    return Chart("Reward parts", "mean of each part", "", series) if len(series) > 1 else None


def _stages_chart(rows: Sequence[MetricRow]) -> Chart | None:
    """Seconds of each stage on one another; what no stage accounts for is called other."""
    names = sorted(
        {name for row in rows for name in row.values if name.startswith("time/") and name != "time/step_s"},
        key=lambda name: -sum(row.values.get(name, 0.0) for row in rows),
    )
    if not names:
        return None
    steps = tuple(row.step for row in rows)
    series = [Series(_stage_name(name), steps, tuple(row.values.get(name, 0.0) for row in rows)) for name in names]
    rest = [
        max(0.0, row.values.get("time/step_s", 0.0) - sum(row.values.get(name, 0.0) for name in names)) for row in rows
    ]
    if sum(rest) > 0.01 * sum(row.values.get("time/step_s", 0.0) for row in rows):
        series.append(Series("other", steps, tuple(rest)))
    return Chart("Time by stage", "seconds a step", "s", tuple(_thinned(item) for item in series), kind="stack")


def _stage_name(metric: str) -> str:
    return metric.removeprefix("time/").removesuffix("_s").replace("_", " ")


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
