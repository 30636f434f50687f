"""From completions files to a result: scores with intervals, and paired comparisons with the first file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlkit.errors import ConfigError
from rlkit.evaluation.compare import Comparison, compare_files
from rlkit.evaluation.completions import JudgesAnswers, ScoredFile, load_completions, score_completions
from rlkit.evaluation.harness.records import HarnessNumber
from rlkit.evaluation.statistics import Interval, IntervalSettings
from rlkit.evaluation.summary import SourceSummary, macro_mean, summarise
from rlkit.evaluation.verdicts import VerdictFile
from rlkit.evaluation.warnings import warnings_of


@dataclass(frozen=True)
class FileResult:
    """One completions file's summaries (all data sources first) and what they were made from.

    macro    as in `macro_mean`
    harness  numbers as lm-evaluation-harness reports them, for tasks of it
    """

    scored: ScoredFile
    summaries: tuple[SourceSummary, ...]
    macro: Interval | None = None
    harness: tuple[HarnessNumber, ...] = ()

    @property
    def overall(self) -> SourceSummary:
        return self.summaries[0]


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that `rlkit eval` found out.

    functions  reward functions; functions_by_source: those of data sources that have their own
    cluster    column that names families of prompts; empty: none
    """

    functions: tuple[str, ...]
    confidence: float
    files: tuple[FileResult, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    functions_by_source: Mapping[str, tuple[str, ...]]
    cluster: str


def evaluate_files(
    paths: Sequence[str],
    scorer: JudgesAnswers,
    *,
    functions: Sequence[str],
    settings: IntervalSettings,
    labels: Mapping[str, str] | None = None,
    functions_by_source: Mapping[str, tuple[str, ...]] | None = None,
    cluster: str = "",
    verdicts: Callable[[str], VerdictFile | None] = lambda path: None,
    on_start: Callable[[str, int], Callable[[int], None]] | None = None,
) -> EvaluationResult:
    """Judge every file of `paths`.

    labels: what to call a file, by path; verdicts: where its verdicts are kept; cluster as in `summarise`;
    `on_start(name, prompts)` returns what is told of the progress. Raises `ConfigError` for no or repeated files,
    `DataError` for unreadable ones, `RewardError` as the scorer does.
    """
    if not paths:
        raise ConfigError("no completions file; give one or more .jsonl files as `rlkit generate` writes them")
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"completions file {repeated} is given twice; a comparison with itself says nothing")
    loaded = [(path, load_completions(path)) for path in paths]
    results = []
    for path, rows in loaded:
        label = (labels or {}).get(path, "")
        progress = None if on_start is None else on_start(label or path, len(rows))
        scored = score_completions(path, rows, scorer, label=label, verdicts=verdicts(path), on_progress=progress)
        summaries = summarise(scored.rows, settings, cluster=cluster)
        results.append(FileResult(scored, summaries, macro_mean(summaries, settings)))
    comparisons = compare_files([result.scored for result in results], settings, cluster=cluster)
    named = [(result.scored, result.overall) for result in results]
    return EvaluationResult(
        functions=tuple(functions),
        confidence=settings.confidence,
        files=tuple(results),
        comparisons=comparisons,
        warnings=tuple(warnings_of(named, comparisons)),
        functions_by_source=dict(functions_by_source or {}),
        cluster=cluster,
    )
