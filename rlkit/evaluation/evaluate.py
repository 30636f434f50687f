"""From completions files to a result: scores with intervals, and paired comparisons with the first file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlkit.errors import ConfigError
from rlkit.evaluation.compare import Comparison, compare_files
from rlkit.evaluation.completions import JudgesAnswers, ScoredFile, load_completions, score_completions
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.summary import SourceSummary, summarise


@dataclass(frozen=True)
class FileResult:
    """One completions file's summaries (all data sources first) and what they were made from."""

    scored: ScoredFile
    summaries: tuple[SourceSummary, ...]

    @property
    def overall(self) -> SourceSummary:
        return self.summaries[0]


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that `rlkit eval` found out."""

    functions: tuple[str, ...]
    confidence: float
    files: tuple[FileResult, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]


def evaluate_files(
    paths: Sequence[str],
    scorer: JudgesAnswers,
    *,
    functions: Sequence[str],
    settings: IntervalSettings,
    on_start: Callable[[str, int], Callable[[int], None]] | None = None,
) -> EvaluationResult:
    """Judge every file of `paths`. `on_start(path, prompts)` returns what is told of the progress.

    Raises `ConfigError` for no or repeated files, `DataError` for unreadable ones, `RewardError` as the scorer does.
    """
    if not paths:
        raise ConfigError("no completions file; give one or more .jsonl files as `rlkit generate` writes them")
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"completions file {repeated} is given twice; a comparison with itself says nothing")
    loaded = [(path, load_completions(path)) for path in paths]
    results = []
    for path, rows in loaded:
        progress = None if on_start is None else on_start(path, len(rows))
        scored = score_completions(path, rows, scorer, on_progress=progress)
        results.append(FileResult(scored, summarise(scored.rows, settings)))
    comparisons = compare_files([result.scored for result in results], settings)
    return EvaluationResult(
        tuple(functions), settings.confidence, tuple(results), comparisons, tuple(_warnings(results, comparisons))
    )


def as_json_values(result: EvaluationResult) -> dict[str, Any]:
    """The result as plain JSON values, each row's scores included."""
    return {
        "reward_functions": list(result.functions),
        "confidence": result.confidence,
        "files": [
            {
                "path": file.scored.path,
                "model": file.scored.model,
                "sources": [_source_json(summary) for summary in file.summaries],
                "rows": [
                    {"row_id": row.prompt.row_id, "data_source": row.prompt.data_source, "scores": row.scores}
                    for row in file.scored.rows
                ],
            }
            for file in result.files
        ],
        "comparisons": [{**asdict(comparison), "verdict": comparison.verdict} for comparison in result.comparisons],
        "warnings": list(result.warnings),
    }


def _source_json(summary: SourceSummary) -> dict[str, Any]:
    content = asdict(summary)
    content["pass_at"] = {str(k): asdict(interval) for k, interval in summary.pass_at.items()}
    content["samples"] = list(summary.samples)
    return content


def _warnings(results: Sequence[FileResult], comparisons: Sequence[Comparison]) -> list[str]:
    warnings = []
    for result in results:
        overall, path = result.overall, result.scored.path
        if overall.errors:
            answers = "1 answer" if overall.errors == 1 else f"{overall.errors} answers"
            warnings.append(f"{path}: {answers} could not be judged, scored 0")
        if result.scored.unanswered:
            prompts = "1 prompt was" if result.scored.unanswered == 1 else f"{result.scored.unanswered} prompts were"
            warnings.append(f"{path}: {prompts} not answered and left out; `rlkit generate --retry-failed` tries again")
        if overall.samples[0] != overall.samples[1]:
            fewest, most = overall.samples
            warnings.append(f"{path}: prompts have {fewest} to {most} answers; pass@k goes up to the fewest")
        if "," in result.scored.model:
            warnings.append(f"{path}: holds answers of several models: {result.scored.model}")
    warnings.extend(
        f"{comparison.second}: compared on the {comparison.test.prompts} prompts in common; {comparison.only_first} are "
        f"only in {comparison.first}, {comparison.only_second} only in {comparison.second}"
        for comparison in comparisons
        if comparison.only_first or comparison.only_second
    )
    return warnings
