"""A result as tables and sentences for people."""

from __future__ import annotations

from rlkit.evaluation.compare import Comparison
from rlkit.evaluation.evaluate import EvaluationResult, FileResult
from rlkit.evaluation.numbers import bounds, number, p_value, signed
from rlkit.evaluation.statistics import Interval
from rlkit.evaluation.summary import ALL_SOURCES, SourceSummary
from rlkit.evaluation.text_table import TextTable

MICRO, MACRO = "mean of prompts", "mean of sources"
TEST_NAMES = {"mcnemar": "mid-p McNemar test", "permutation": "sign-flip permutation test over {units}"}


def result_tables(result: EvaluationResult) -> list[TextTable]:
    """The scores of each file, what several answers are worth together where there are several, and the comparisons."""
    percent = f"{100 * result.confidence:g} % interval"
    tables = []
    for file in result.files:
        if file.summaries:
            tables.append(_file_table(file, percent))
            tables += _several_answers_table(file, percent)
        tables += _harness_table(file)
    if result.comparisons:
        tables.append(_comparison_table(result, percent))
    return tables


def conclusions(result: EvaluationResult) -> list[str]:
    """Each comparison in a sentence; a difference that may be chance is called so."""
    return [_sentence(comparison, result.confidence) for comparison in result.comparisons]


def _file_table(file: FileResult, level: str) -> TextTable:
    """One row for each data source; with several, the mean of all prompts and the mean of the sources below."""
    overall, *sources = file.summaries
    most = overall.samples[1]
    clustered = overall.clusters != overall.prompts - overall.unjudged
    errors = overall.errors > 0
    header = [
        "data source",
        "prompts",
        *(["clusters"] if clustered else []),
        *(["answers"] if most > 1 else []),
        f"mean@{most}" if most > 1 else "score",
        level,
        *(["errors"] if errors else []),
        *(["tokens", "cut off"] if overall.length else []),
    ]
    rows = []
    for summary in [*sources, overall]:
        name = MICRO if summary.data_source == ALL_SOURCES and sources else summary.data_source
        fewest, largest = summary.samples
        row = [name, str(summary.prompts)]
        row += [str(summary.clusters)] if clustered else []
        row += [str(largest) if fewest == largest else f"{fewest}-{largest}"] if most > 1 else []
        row += _cells(summary.score, summary.is_share)
        row += [str(summary.errors)] if errors else []
        row += [f"{summary.length:.0f}", f"{100 * summary.truncated:.1f} %"] if overall.length else []
        rows.append(tuple(row))
    if file.macro is not None:
        row = [MACRO, ""] + [""] * (clustered + (most > 1))
        row += _cells(file.macro, overall.is_share) + [""] * (errors + 2 * bool(overall.length))
        rows.append(tuple(row))
    scored = file.scored
    other = scored.model if scored.model not in ("", scored.name) else ""
    title = f"{scored.name} ({other})" if other else scored.name
    return TextTable(title, tuple(header), tuple(rows), tuple(_part_notes(overall)))


def _several_answers_table(file: FileResult, level: str) -> list[TextTable]:
    """pass@k and maj@k: a row for each, data source by data source."""
    overall, *sources = file.summaries
    rows = []
    for summary in [*sources, overall]:
        name = MICRO if summary.data_source == ALL_SOURCES and sources else summary.data_source
        measured = [(f"pass@{k}", interval, True) for k, interval in summary.pass_at.items() if k > 1]
        measured += [(f"maj@{k}", interval, summary.is_share) for k, interval in summary.majority_at.items()]
        for label, interval, share in measured:
            rows.append((name, label, *_cells(interval, share)))
            name = ""
    if not rows:
        return []
    title = f"{file.scored.name}: several answers together"
    return [TextTable(title, ("data source", "measure", "value", level), tuple(rows))]


def _harness_table(file: FileResult) -> list[TextTable]:
    """Every number as lm-evaluation-harness prints it."""
    if not file.harness:
        return []
    rows = []
    task = ""
    for found in file.harness:
        error = "-" if found.standard_error is None else f"{found.standard_error:.4f}"
        name = found.task if found.task != task else ""
        rows.append((name, found.metric, found.filter, f"{found.value:.4f}", error))
        task = found.task
    header = ("task", "metric", "filter", "value", "standard error")
    return [TextTable(f"{file.scored.name}: as lm-evaluation-harness reports it", header, tuple(rows))]


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
        test, share = comparison.test, comparison.is_share
        rows.append(
            (
                comparison.second,
                *([str(test.prompts)] if len(counts) > 1 else []),
                signed(test.difference, share),
                f"{signed(test.low, share)} to {signed(test.high, share)}",
                p_value(comparison.adjusted_p_value),
                comparison.verdict,
            )
        )
    header = ("compared", *(["prompts"] if len(counts) > 1 else []), "difference", level, "p", "verdict")
    notes = []
    if len(rows) > 1:
        notes = [f"p is corrected for {len(rows)} comparisons (Holm); the intervals are not"]
    title = f"compared with {result.comparisons[0].first}, prompt by prompt"
    return TextTable(title, header, tuple(rows), tuple(notes))


def _sentence(comparison: Comparison, confidence: float) -> str:
    test, share = comparison.test, comparison.is_share
    interval = f"{100 * confidence:g} % interval {signed(test.low, share)} to {signed(test.high, share)}"
    p = p_value(comparison.adjusted_p_value)
    clustered = test.clusters < test.prompts
    name = TEST_NAMES[test.method].format(units="clusters" if clustered else "prompts")
    evidence = f"{interval}, p {p if p.startswith('<') else '= ' + p}, {name}"
    scope = f"{test.prompts} prompts in {test.clusters} clusters" if clustered else f"{test.prompts} prompts"
    unit = " points" if share else ""
    if comparison.significant:
        amount = number(abs(test.difference), share).removesuffix(" %")
        return f"{comparison.second} is {comparison.verdict} than {comparison.first} by {amount}{unit} ({evidence}, {scope})."
    detectable = number(test.detectable, share).removesuffix(" %")
    return (
        f"The difference between {comparison.second} and {comparison.first} is not significant: "
        f"{signed(test.difference, share)}{unit} ({evidence}). With these {scope}, a true difference of {detectable}{unit} "
        "would be found 4 times in 5."
    )


def _cells(interval: Interval, share: bool) -> list[str]:
    return [number(interval.mean, share), bounds(interval, share)]
