"""What the harness found out about each document, as rows that rlkit's intervals and comparisons are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.evaluation.completions import ScoredFile, ScoredRow
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Reward

PREFERRED_METRICS = ("exact_match", "acc", "pass@1")
"""The metric that becomes the score, where a task has one of them; else its first. The others are parts."""


@dataclass(frozen=True)
class HarnessNumber:
    """A number as the harness reports it; standard_error is None where it gives none."""

    task: str
    metric: str
    filter: str
    value: float
    standard_error: float | None


def scored_tasks(results: Mapping[str, Any], *, label: str) -> ScoredFile:
    """Every document of every task as a row of the data source `task`, or `task (filter)` where it has several filters.

    Documents whose metrics are not single numbers (perplexities) are in `harness_numbers` only.
    """
    rows: list[ScoredRow] = []
    row_id = 0
    for task, samples in sorted(results["samples"].items()):
        filters = {sample.get("filter", "none") for sample in samples}
        directions = results.get("higher_is_better", {}).get(task, {})
        for sample in sorted(samples, key=lambda sample: (str(sample.get("filter", "none")), sample["doc_id"])):
            source = task if len(filters) == 1 else f"{task} ({sample['filter']})"
            row = _row(sample, directions, source=source, row_id=row_id)
            if row is not None:
                rows.append(row)
            row_id += 1
    return ScoredFile(path=label, model=label, rows=tuple(rows), label=label)


def harness_numbers(results: Mapping[str, Any]) -> Iterator[HarnessNumber]:
    """Every number that the harness would print, groups of tasks included."""
    tables: dict[str, Mapping[str, Any]] = {**results.get("results", {})}
    for task, table in sorted(tables.items()):
        for key, value in table.items():
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not _is_number(value):
                continue
            error = table.get(f"{metric}_stderr,{name}")
            known = float(error) if error is not None and _is_number(error) else None
            yield HarnessNumber(task, metric, name, float(value), known)


def _row(
    sample: Mapping[str, Any], directions: Mapping[str, bool | None], *, source: str, row_id: int
) -> ScoredRow | None:
    """directions: of each metric, whether higher is better, as far as the harness knows."""
    numbers = {name: float(sample[name]) for name in sample.get("metrics", ()) if _is_number(sample.get(name))}
    if not numbers:
        return None
    chosen = next((name for name in PREFERRED_METRICS if name in numbers), next(iter(numbers)))
    prompt = Prompt(row_id, text=_question(sample), reference=sample.get("target"), data_source=source)
    parts = {f"{source}/{name}": value for name, value in numbers.items()} if len(numbers) > 1 else {}
    return ScoredRow(
        prompt,
        (Reward(numbers[chosen], parts),),
        (_answer(sample),),
        truncated=0,
        num_tokens=0,
        # Each model's chat template makes another text of the same document.
        identity=f"{sample['doc_id']} {sample.get('doc_hash', '')}",
        higher_is_better=directions.get(chosen),
    )


def _question(sample: Mapping[str, Any]) -> str:
    """The text that the model was given first; `arguments` holds those of each request."""
    return str(sample["arguments"][0][0])


def _answer(sample: Mapping[str, Any]) -> str | None:
    """The text that an answer was reduced to; None for choices among likelihoods."""
    answers: Sequence[Any] = sample.get("filtered_resps") or ()
    return answers[0] if len(answers) == 1 and isinstance(answers[0], str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
