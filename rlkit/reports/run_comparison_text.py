"""A comparison of runs as text for a terminal."""

from __future__ import annotations

from rlkit.evaluation.tables import TEST_NAMES
from rlkit.reports.run_comparison import AROUND, LEVEL, RunComparison
from rlkit.reports.text_table import render_table

MAX_VALUE = 40
"""Characters of a setting; the end of a longer one is left out."""


def render_comparison(comparison: RunComparison) -> str:
    """Settings, validations, paired tests and metrics, a table each, those that there are."""
    parts = [_settings(comparison), _validations(comparison), _paired(comparison), _metrics(comparison)]
    return "\n\n".join(part for part in parts if part)


def _settings(comparison: RunComparison) -> str:
    if not comparison.settings:
        return "Settings: the same in all runs."
    rows = [(one.key, *map(_shortened, one.values)) for one in comparison.settings]
    return "Settings that differ\n" + render_table(("", *comparison.labels), rows)


def _validations(comparison: RunComparison) -> str:
    names = [name for name in ("start", "best", "last") if any(run[name] for run in comparison.validations)]
    if not names:
        return ""
    rows = [
        (label, *("-" if (score := run[name]) is None else f"{score} at step {score.step:,}" for name in names))
        for label, run in zip(comparison.labels, comparison.validations, strict=True)
    ]
    return "Validation score, with 95 % intervals\n" + render_table(("", *names), rows)


def _paired(comparison: RunComparison) -> str:
    if not comparison.paired:
        return f"No paired test: {comparison.unpaired}." if comparison.unpaired else ""
    rows = []
    for one in comparison.paired:
        test = one.test
        difference = f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})"
        p_value = "< 0.001" if one.adjusted_p_value < 0.001 else f"{one.adjusted_p_value:.3f}"
        steps = f"{one.steps[1]:,} against {one.steps[0]:,}"
        rows.append(
            (f"{one.second} - {one.first}", one.which, steps, f"{test.prompts:,}", difference, p_value, one.verdict, f"{test.detectable:.3f}")
        )  # fmt: skip
    head = ("", "which", "steps", "prompts", "difference", "p", "verdict", "detectable")
    methods = dict.fromkeys(TEST_NAMES[one.test.method].format(units="prompts") for one in comparison.paired)
    corrected = f", corrected for {len(rows)} comparisons" if len(rows) > 1 else ""
    note = f"p: {' or '.join(methods)}{corrected}; significant below {LEVEL:g}"
    left_out = sum(one.left_out for one in comparison.paired)
    more = f"; {left_out:,} prompts that only one run was asked are left out" if left_out else ""
    return "Paired over the same prompts\n" + render_table(head, rows, right=(3, 5, 7)) + f"\n{note}{more}"


def _metrics(comparison: RunComparison) -> str:
    if not comparison.metrics:
        return ""
    rows = [
        (name, *("-" if value is None else f"{value:.4g}" for value in values))
        for name, values in comparison.metrics.items()
    ]
    columns = range(1, len(comparison.labels) + 1)
    title = f"Metrics at step {comparison.step:,} (means of the {AROUND} steps up to it)"
    return f"{title}\n" + render_table(("", *comparison.labels), rows, right=tuple(columns))


def _shortened(value: str) -> str:
    return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 3]}..."
