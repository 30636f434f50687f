"""A result as plain JSON values, each answer's score included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rlkit.evaluation.completions import ScoredRow
from rlkit.evaluation.evaluate import EvaluationResult, FileResult
from rlkit.evaluation.summary import SourceSummary


def as_json_values(result: EvaluationResult) -> dict[str, Any]:
    """Without NaN: what is not known is null."""
    values: dict[str, Any] = _known(
        {
            "reward_functions": list(result.functions),
            "reward_functions_by_source": {name: list(names) for name, names in result.functions_by_source.items()},
            "confidence": result.confidence,
            "cluster": result.cluster,
            "files": [_file_json(file) for file in result.files],
            "comparisons": [{**asdict(comparison), "verdict": comparison.verdict} for comparison in result.comparisons],
            "warnings": list(result.warnings),
        }
    )
    return values


def _file_json(file: FileResult) -> dict[str, Any]:
    scored = file.scored
    return {
        "path": scored.path,
        "label": scored.name,
        "model": scored.model,
        "unanswered": scored.unanswered,
        "sources": [_source_json(summary) for summary in file.summaries],
        "macro": None if file.macro is None else asdict(file.macro),
        "harness": [asdict(number) for number in file.harness],
        "rows": [_row_json(row) for row in scored.rows],
    }


def _source_json(summary: SourceSummary) -> dict[str, Any]:
    content = asdict(summary)
    for name in ("pass_at", "majority_at", "too_few"):
        content[name] = {str(k): value for k, value in content[name].items()}
    content["samples"] = list(summary.samples)
    return content


def _row_json(row: ScoredRow) -> dict[str, Any]:
    """A score is null where the answer could not be judged."""
    return {
        "row_id": row.prompt.row_id,
        "data_source": row.prompt.data_source,
        "scores": [None if reward.error is not None else reward.score for reward in row.rewards],
    }


def _known(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return value
