"""A trial of a reward on the terminal, and as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rlkit.rewards.findings import Outlier, find_all, find_outliers, is_suspicious
from rlkit.rewards.trial import AnswerGroup, JudgedAnswer, ProbeResult, Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKS = {"unusable": ("✗", "bold red"), "suspicious": ("✗", "red"), "note": ("!", "yellow"), "fine": ("✓", "green")}
BARS = "▁▂▃▄▅▆▇█"
BINS = 12
FEW_VALUES = 4
PLAIN_WIDTH = 110
"""Columns where there is no terminal."""
SHOWN_CHARACTERS = 160


def print_trial(
    trial: Trial,
    *,
    functions: Sequence[str],
    data: Sequence[str],
    completions: Sequence[str],
    console: Console | None = None,
) -> None:
    """Print to standard output: scores, parts, probes, latency, outliers, findings."""
    from rich.console import Console

    out = console or Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, soft_wrap=False)
    out.print(f"[bold]{' + '.join(functions)}[/] on {', '.join([*data, *completions])}", markup=True)
    out.print()
    out.print(_score_table(trial))
    for line in _form_lines(trial):
        out.print(line, markup=False)
    out.print()
    if trial.probes:
        out.print(_probe_table(trial))
        out.print()
    out.print(_latency_line(trial.answers), markup=False)
    outliers = find_outliers(trial)
    if outliers:
        out.print()
        out.print("[bold]outliers[/]")
        for outlier in outliers:
            _print_outlier(out, outlier)
    out.print()
    out.print("[bold]findings[/]")
    for finding in find_all(trial):
        mark, style = MARKS[finding.level]
        out.print(f"  {mark} {finding.text}", style=style, markup=False)


def as_json_values(
    trial: Trial, *, functions: Sequence[str], data: Sequence[str], completions: Sequence[str]
) -> dict[str, Any]:
    """The trial as plain JSON values."""
    return {
        "reward_functions": list(functions),
        "data": list(data),
        "completions": list(completions),
        "form": trial.form,
        "forms": trial.forms,
        "groups": [_group_values(group) for group in (trial.references, trial.completions) if group is not None],
        "probes": [
            {
                **_group_values(result.group),
                "share_like_right": result.share_like_right,
                "right_by_chance": result.by_chance,
                "suspicious": is_suspicious(result),
            }
            for result in trial.probes
        ],
        "latency_s": _latency(trial.answers),
        "outliers": [
            {
                "row_id": outlier.answer.sample.prompt.row_id,
                "data_source": outlier.answer.sample.prompt.data_source,
                "score": outlier.answer.reward.score,
                "parts": dict(outlier.answer.reward.parts),
                "reason": outlier.reason,
                "response": outlier.answer.sample.response[:2000],
                "reference": str(outlier.answer.sample.prompt.reference)[:2000],
            }
            for outlier in find_outliers(trial)
        ],
        "findings": [{"level": finding.level, "text": finding.text} for finding in find_all(trial)],
        "errors": sum(answer.failed for answer in trial.answers),
    }


def _group_values(group: AnswerGroup) -> dict[str, Any]:
    scores = group.scores
    return {
        "name": group.name,
        "answers": len(group.answers),
        "mean": group.mean,
        "min": min(scores, default=None),
        "max": max(scores, default=None),
        "parts": _parts(group),
        "errors": dict(group.errors),
        "latency_s": _latency(group.answers),
    }


def _parts(group: AnswerGroup) -> dict[str, float]:
    """Mean of each part over the answers that have it."""
    found: dict[str, list[float]] = {}
    for answer in group.answers:
        for name, value in answer.reward.parts.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _latency(answers: Sequence[JudgedAnswer]) -> dict[str, float] | None:
    seconds = sorted(answer.seconds for answer in answers if answer.seconds is not None)
    if not seconds:
        return None
    return {"median": median(seconds), "p95": seconds[int(0.95 * (len(seconds) - 1))], "max": seconds[-1]}


def _score_table(trial: Trial) -> Table:
    table = _table("answers", "n", "mean", "min", "max", "distribution", "errors")
    for group in (trial.references, trial.completions):
        if group is None:
            continue
        for name, part in _by_source(group):
            scores = part.scores
            low, high = min(scores, default=None), max(scores, default=None)
            errors = sum(part.errors.values())
            table.add_row(
                name,
                str(len(part.answers)),
                _number(part.mean),
                _number(low),
                _number(high),
                _distribution(scores),
                str(errors) if errors else "-",
                style="red" if errors else None,
            )
        parts = _parts(group)
        if len(parts) > 1:
            for name, value in parts.items():
                table.add_row(f"  {name}", "", _number(value), "", "", "", "", style="dim")
    return table


def _by_source(group: AnswerGroup) -> list[tuple[str, AnswerGroup]]:
    """The whole group, then each data source where there are several."""
    sources = Counter(answer.sample.prompt.data_source for answer in group.answers)
    if len(sources) < 2:
        return [(group.name, group)]
    parts = [
        (f"  {source}", AnswerGroup(source, tuple(a for a in group.answers if a.sample.prompt.data_source == source)))
        for source, _ in sources.most_common(8)
    ]
    return [(group.name, group), *parts]


def _form_lines(trial: Trial) -> list[str]:
    if len(trial.forms) < 2:
        return []
    ordered = sorted(trial.forms.items(), key=lambda item: -item[1])
    if ordered[0][1] == ordered[-1][1]:
        return [f"right answers score {_number(ordered[0][1])} in every form: {', '.join(trial.forms)}"]
    listed = ", ".join(f"{name} {_number(mean)}" for name, mean in ordered)
    return [f"right answers are written {trial.form!r}, which scores best; mean by form: {listed}"]


def _probe_table(trial: Trial) -> Table:
    table = _table("probe", "n", "mean", "max", "like a right answer", "")
    for result in trial.probes:
        suspicious = is_suspicious(result)
        table.add_row(
            result.name,
            str(len(result.group.answers)),
            _number(result.group.mean),
            _number(max(result.group.scores, default=None)),
            "-" if result.share_like_right is None else f"{100 * result.share_like_right:.0f} %",
            _verdict(result),
            style="red" if suspicious else None,
        )
    return table


def _verdict(result: ProbeResult) -> str:
    errors = sum(result.group.errors.values())
    if errors:
        return f"✗ {errors} not judged"
    return "✗ SUSPICIOUS" if is_suspicious(result) else "✓"


def _latency_line(answers: Sequence[JudgedAnswer]) -> str:
    latency = _latency(answers)
    if latency is None:
        return "latency per answer: not known, the reward judges whole batches"
    slowest = max(
        (answer for answer in answers if answer.seconds is not None), key=lambda answer: answer.seconds or 0.0
    )
    shown = f"row {slowest.sample.prompt.row_id}, {len(slowest.sample.response):,} characters"
    return (
        f"latency per answer: median {_time(latency['median'])}, p95 {_time(latency['p95'])}, "
        f"max {_time(latency['max'])} ({shown})"
    )


def _print_outlier(out: Console, outlier: Outlier) -> None:
    answer = outlier.answer
    prompt = answer.sample.prompt
    parts = ", ".join(f"{name} {_number(value)}" for name, value in answer.reward.parts.items())
    out.print(f"  row {prompt.row_id}: {_number(answer.reward.score)}, {outlier.reason} ({parts})", markup=False)
    texts = {"answer": answer.sample.response, "reference": str(prompt.reference)}
    for label, text in texts.items():
        if label == "reference" and text == answer.sample.response:
            continue
        out.print(f"    {label:<10}{_shortened(text)}", style="dim", markup=False)


def _shortened(text: str) -> str:
    """One line, with the end of it, where answers stand."""
    line = " ".join(text.split())
    half = SHOWN_CHARACTERS // 2
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: half - 2]} ... {line[-half + 3 :]}"


def _table(*header: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in header:
        numeric = name not in ("answers", "probe", "distribution", "")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name in ("answers", "probe"))
    return table


def _distribution(scores: Sequence[float]) -> str:
    """Each value with its share where there are few, else bars from the lowest to the highest score."""
    if not scores:
        return ""
    values = Counter(round(score, 6) for score in scores)
    if len(values) <= FEW_VALUES:
        return ", ".join(f"{_number(value)}: {_share(count, len(scores))}" for value, count in sorted(values.items()))
    low, high = min(scores), max(scores)
    bins = Counter(min(BINS - 1, int(BINS * (score - low) / (high - low))) for score in scores)
    tallest = max(bins.values())
    return "".join(
        BARS[round((len(BARS) - 1) * bins[position] / tallest)] if bins[position] else " " for position in range(BINS)
    )


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} %" if count * 200 >= total else f"{count} of {total}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _time(seconds: float) -> str:
    if seconds >= 0.1:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.2g} ms"
