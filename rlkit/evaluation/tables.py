"""A result as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.evaluation.compare import Comparison
from rlkit.evaluation.evaluate import EvaluationResult, FileResult
from rlkit.evaluation.statistics import Interval
from rlkit.evaluation.summary import SourceSummary

TEST_NAMES = {"mcnemar": "exact McNemar test", "permutation": "sign-flip permutation test over prompts"}


@dataclass(frozen=True)
class TextTable:
    """The first column holds names, all others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def result_tables(result: EvaluationResult) -> list[TextTable]:
    """One table for each file, and one of the comparisons when there are any."""
    percent = f"{100 * result.confidence:g} % interval"
    tables = [_file_table(file, percent) for file in result.files]
    if result.comparisons:
        tables.append(_comparison_table(result, percent))
    return tables


def conclusions(result: EvaluationResult) -> list[str]:
    """Each comparison in a sentence; a difference that may be chance is called so."""
    return [
        _sentence(comparison, _is_share(result, comparison), result.confidence) for comparison in result.comparisons
    ]


def plain_text(table: TextTable, *, width: int = 0) -> str:
    """The table in aligned columns, without colours; rows and columns are exchanged where only that fits into `width` (0: any)."""
    lines = _aligned([table.header, *table.rows])
    if width and max(map(len, lines)) > width:
        upright = _aligned(list(zip(table.header, *table.rows, strict=True)))
        lines = upright if max(map(len, upright)) <= width else lines
    return "\n".join([table.title, "", *lines, *(f"  {note}" for note in table.notes)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Names to the left, numbers to the right, a rule under the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return [lines[0], "  " + "-" * (len(lines[0]) - 2), *lines[1:]]


def _file_table(file: FileResult, level: str) -> TextTable:
    share = _in_percent(file.overall)
    ks = [k for k in file.overall.pass_at if k > 1]
    majority = file.overall.majority is not None
    most = file.overall.samples[1]
    header = [
        "data source",
        "prompts",
        *(["answers"] if most > 1 else []),
        f"mean@{most}" if most > 1 else "score",
        level,
    ]
    header += [text for k in ks for text in (f"pass@{k}", level)]
    header += [f"maj@{most}", level] if majority else []
    header += ["tokens", "cut off"]
    rows = []
    for summary in file.summaries:
        fewest, largest = summary.samples
        row = [summary.data_source, str(summary.prompts)]
        if most > 1:
            row.append(str(largest) if fewest == largest else f"{fewest}-{largest}")
        row += _cells(summary.score, share)
        for k in ks:
            row += _cells(summary.pass_at[k], share=True) if k in summary.pass_at else ["-", "-"]
        if majority:
            row += ["-", "-"] if summary.majority is None else _cells(summary.majority, share)
        row += [f"{summary.length:.0f}", f"{100 * summary.truncated:.1f} %"]
        rows.append(tuple(row))
    title = f"{file.scored.path} ({file.scored.model})" if file.scored.model else file.scored.path
    return TextTable(title, tuple(header), tuple(rows), tuple(_part_notes(file.overall)))


def _part_notes(summary: SourceSummary) -> list[str]:
    """Means of the parts, unless the only part is the score itself."""
    if len(summary.parts) < 2:
        return []
    return ["parts: " + ", ".join(f"{name} {value:.4g}" for name, value in summary.parts.items())]


def _comparison_table(result: EvaluationResult, level: str) -> TextTable:
    """One row for each file after the first; the number of prompts is in the title unless the rows differ in it."""
    counts = {comparison.test.prompts for comparison in result.comparisons}
    rows = []
    for comparison in result.comparisons:
        test = comparison.test
        share = _is_share(result, comparison)
        rows.append(
            (
                comparison.second,
                *([str(test.prompts)] if len(counts) > 1 else []),
                _signed(test.difference, share),
                f"{_signed(test.low, share)} to {_signed(test.high, share)}",
                _p_value(comparison.adjusted_p_value),
                comparison.verdict,
            )
        )
    header = ("completions", *(["prompts"] if len(counts) > 1 else []), "difference", level, "p", "verdict")
    notes = ["p is corrected for the number of comparisons (Holm)"] if len(rows) > 1 else []
    title = f"compared with {result.comparisons[0].first}, prompt by prompt"
    return TextTable(title, header, tuple(rows), tuple(notes))


def _sentence(comparison: Comparison, share: bool, confidence: float) -> str:
    test = comparison.test
    interval = f"{100 * confidence:g} % interval {_signed(test.low, share)} to {_signed(test.high, share)}"
    p_value = _p_value(comparison.adjusted_p_value)
    evidence = f"{interval}, p {p_value if p_value.startswith('<') else '= ' + p_value}, {TEST_NAMES[test.method]}"
    scope = f"{test.prompts} prompts"
    unit = " points" if share else ""
    if comparison.significant:
        amount = _number(abs(test.difference), share).removesuffix(" %")
        return f"{comparison.second} is {comparison.verdict} than {comparison.first} by {amount}{unit} ({evidence}, {scope})."
    detectable = _number(test.detectable, share).removesuffix(" %")
    return (
        f"The difference between {comparison.second} and {comparison.first} is not significant: "
        f"{_signed(test.difference, share)} ({evidence}). With these {scope}, a true difference of {detectable}{unit} "
        "would be found 4 times in 5."
    )


def _is_share(result: EvaluationResult, comparison: Comparison) -> bool:
    """Both files' scores are 0 or 1, so that means are shares and differences percentage points."""
    by_path = {file.scored.path: file.overall for file in result.files}
    return _in_percent(by_path[comparison.first]) and _in_percent(by_path[comparison.second])


def _in_percent(summary: SourceSummary) -> bool:
    return summary.score.method.startswith("wilson")


def _cells(interval: Interval, share: bool) -> list[str]:
    low = _number(interval.low, share).removesuffix(" %")
    return [_number(interval.mean, share), f"{low} to {_number(interval.high, share)}"]


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"


def _signed(value: float, share: bool) -> str:
    return f"{100 * value:+.1f}" if share else f"{value:+.4g}"


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"
