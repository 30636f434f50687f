"""Which metrics a person watches, what they are called on a small screen, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """metric name, label, and a format specification, or `count` (1.2k), `rate` (0.31, 45.2, 1.2k) or `percent`."""

    metric: str
    label: str
    form: str = ".3f"

    def write(self, value: float) -> str:
        if self.form == "count":
            return write_count(value)
        if self.form == "rate":
            return write_count(value) if abs(value) >= 100 else f"{value:.3g}"
        if self.form == "percent":
            return f"{100 * value:.1f}%"
        text = format(value, self.form)
        return text if any(digit in "123456789naif" for digit in text) else text.removeprefix("-")

    def write_change(self, change: float) -> str:
        """With its sign; empty for a change too small to be written in this form."""
        text = self.write(abs(change))
        is_nothing = not any(digit in "123456789" for digit in text)
        return "" if is_nothing else f"{'+' if change > 0 else '-'}{text}"


HEADLINES: Mapping[str, tuple[Headline, ...]] = {
    "ppo": (
        Headline("reward/mean", "reward"),
        Headline("validation/score", "validation"),
        Headline("response/length_mean", "length", ".1f"),
        Headline("response/truncated_fraction", "cut off", "percent"),
        Headline("actor/entropy", "entropy"),
        Headline("actor/kl_to_reference", "kl to ref", ".4f"),
        Headline("actor/kl_to_old", "kl to old", ".4f"),
        Headline("actor/clip_fraction", "clipped", "percent"),
        Headline("actor/grad_norm", "grad norm"),
        Headline("critic/explained_variance", "critic ev", ".2f"),
        Headline("actor/lr", "lr", ".2g"),
        Headline("rollout/tokens_per_s", "tok/s", "count"),
        Headline("perf/mfu", "mfu", "percent"),
        Headline("time/step_s", "s/step", ".2f"),
    ),
    "sft": (
        Headline("sft/loss", "loss", ".4f"),
        Headline("sft/validation_loss", "validation", ".4f"),
        Headline("sft/epoch", "epoch", ".2f"),
        Headline("sft/grad_norm", "grad norm"),
        Headline("sft/lr", "lr", ".2g"),
        Headline("throughput/tokens_per_s", "tok/s", "count"),
        Headline("perf/mfu", "mfu", "percent"),
    ),
    "generate": (
        Headline("generate/answers_per_s", "answers/s", "rate"),
        Headline("response/length_mean", "length", ".1f"),
        Headline("rollout/tokens_per_s", "tok/s", "count"),
    ),
}
PLAIN_LIMIT = 5
"""Headlines in a plain line: what fits beside the step and the time in a log."""


def known_headlines(kind: str, metrics: Mapping[str, float]) -> list[Headline]:
    """Those that the step has, in order."""
    return [headline for headline in HEADLINES.get(kind, ()) if headline.metric in metrics]


def headlines(kind: str, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """(label, value) of the headlines that the step has, in order."""
    return [(headline.label, headline.write(metrics[headline.metric])) for headline in known_headlines(kind, metrics)]


def validation_line(metrics: Mapping[str, float]) -> str:
    """`score 0.625 (0.595 to 0.654) on 1,000 prompts, pass@8 0.911, maj@8 0.702`, or the plain numbers where there is no score."""
    score = metrics.get("validation/score")
    if score is None:
        return ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
    low, high = metrics.get("validation/score_low"), metrics.get("validation/score_high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    prompts = metrics.get("validation/prompts")
    several = "".join(f", {name} {value:.3f}" for name, value in _several_answers(metrics))
    return f"score {score:.3f}{interval}" + ("" if prompts is None else f" on {prompts:,.0f} prompts") + several


def _several_answers(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """pass@k and maj@k for the largest k."""
    found = re.compile(r"validation/(pass|maj)_at_(\d+)")
    matches = [match for match in map(found.fullmatch, metrics) if match]
    largest = {match[1]: match for match in sorted(matches, key=lambda match: int(match[2]))}
    return [(f"{kind}@{largest[kind][2]}", metrics[largest[kind][0]]) for kind in ("pass", "maj") if kind in largest]


def write_count(value: float) -> str:
    """950, 1.2k, 3.4M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}"


def write_seconds(seconds: float) -> str:
    """0:07, 12:34, 3:05:09."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
