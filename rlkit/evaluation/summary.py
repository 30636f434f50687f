"""One data source's result (or all of them together) in numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlkit.errors import DataError
from rlkit.evaluation.completions import ScoredRow
from rlkit.evaluation.pass_at_k import majority_at_k, pass_at_k, useful_ks
from rlkit.evaluation.statistics import (
    Interval,
    IntervalSettings,
    are_binary,
    cluster_sums,
    mean_interval,
    mean_of_means,
)

ALL_SOURCES = "all"
NO_SCORE = Interval(math.nan, math.nan, math.nan, "none")
"""Of prompts without a single verdict."""


@dataclass(frozen=True)
class ErrorBounds:
    """What the score would be had every answer without a verdict got the lowest, or the highest, score.

    The scale is 0 to 1 where all scores are, else what was seen.
    """

    low: float
    high: float


@dataclass(frozen=True)
class SourceSummary:
    """What the answers to one data source's prompts are worth. Answers without a verdict are left out of all that scores tell.

    prompts      asked and answered; unjudged: those without a single verdict
    clusters     independent units: prompts with a verdict, or the families that a cluster column names
    degrees      degrees of freedom of the score's standard error
    samples      fewest and most answers to a prompt
    score        mean over prompts of each prompt's mean score (mean@k); NO_SCORE where there is no verdict
    is_share     all scores are 0 or 1, so that means are shares
    pass_at      pass@k by k; empty for one answer a prompt and for scores that are not 0 or 1
    majority_at  maj@k by k; empty for one answer a prompt, and when the reward extracts no answers
    too_few      prompts with fewer than k verdicts by k, which pass@k and maj@k leave out; those without any are not in it
    errors       answers that could not be judged; error_bounds: what they could change, None without any
    parts        mean of every named part
    length       mean length in tokens; truncated: share of answers that were cut at the limit
    """

    data_source: str
    prompts: int
    unjudged: int
    clusters: int
    degrees: float
    samples: tuple[int, int]
    score: Interval
    is_share: bool
    pass_at: Mapping[int, Interval]
    majority_at: Mapping[int, Interval]
    too_few: Mapping[int, int]
    errors: int
    error_bounds: ErrorBounds | None
    parts: Mapping[str, float]
    length: float
    truncated: float

    @property
    def majority(self) -> Interval | None:
        """maj@k over as many answers as every prompt has."""
        return self.majority_at[max(self.majority_at)] if self.majority_at else None


def summarise(rows: Sequence[ScoredRow], settings: IntervalSettings, *, cluster: str = "") -> tuple[SourceSummary, ...]:
    """All rows together first, then, when there are several, each data source in alphabetical order.

    cluster: column (in `Prompt.extra`) whose value names a prompt's family; empty: each prompt is one of its own. Raises
    `DataError` for a row without it.
    """
    families = cluster_numbers(rows, cluster)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[row.prompt.data_source].append(index)
    named = sorted(groups.items())
    everything = list(range(len(rows)))
    chosen = named if len(named) == 1 else [(ALL_SOURCES, everything), *named]
    return tuple(
        _summary(
            name,
            [rows[index] for index in indices],
            None if families is None else [families[index] for index in indices],
            settings,
        )
        for name, indices in chosen
    )


def macro_mean(summaries: Sequence[SourceSummary], settings: IntervalSettings) -> Interval | None:
    """The mean over data sources, each with the same weight; None for a single one, or one without a verdict."""
    sources = summaries[1:]
    if not sources or any(math.isnan(summary.score.mean) for summary in sources):
        return None
    return mean_of_means(
        [summary.score for summary in sources],
        [summary.degrees for summary in sources],
        confidence=settings.confidence,
    )


def cluster_numbers(rows: Sequence[ScoredRow], column: str) -> list[int] | None:
    """A number for each row, the same for rows of one family; families of different data sources are different."""
    if not column:
        return None
    numbers: dict[tuple[str, str], int] = {}
    result = []
    for row in rows:
        if column not in row.prompt.extra:
            have = ", ".join(sorted(row.prompt.extra)) or "none"
            raise DataError(
                f"row_id {row.prompt.row_id} has no column {column!r}, which evaluation.cluster names; its extra columns: {have}"
            )
        key = (row.prompt.data_source, str(row.prompt.extra[column]))
        result.append(numbers.setdefault(key, len(numbers)))
    return result


def _summary(
    name: str, rows: Sequence[ScoredRow], families: Sequence[int] | None, settings: IntervalSettings
) -> SourceSummary:
    judged = [index for index, row in enumerate(rows) if row.errors < len(row.rewards)]
    scores = [rows[index].scores for index in judged]
    inside = None if families is None else [families[index] for index in judged]
    means = [math.fsum(row) / len(row) for row in scores]
    is_share = bool(scores) and all(are_binary(row) for row in scores)
    counts = [len(row.rewards) for row in rows]
    answers = sum(counts)
    ks = useful_ks(min(counts)) if scores and min(counts) > 1 else []
    sums = cluster_sums(means, inside) if means else None
    pass_at = _pass_at(scores, inside, ks, settings) if is_share else {}
    majority_at = _majority_at([rows[index] for index in judged], inside, ks, settings)
    several = max(counts) > 1
    return SourceSummary(
        data_source=name,
        prompts=len(rows),
        unjudged=len(rows) - len(judged),
        clusters=len(sums.totals) if sums is not None else 0,
        degrees=sums.degrees if sums is not None else 0.0,
        samples=(min(counts), max(counts)),
        score=_score(means, inside, sum(map(len, scores)) if is_share and several else None, settings),
        is_share=is_share,
        pass_at=pass_at,
        majority_at=majority_at,
        too_few={k: few for k in ks if (few := sum(len(row) < k for row in scores))},
        errors=sum(row.errors for row in rows),
        error_bounds=_error_bounds(rows, scores),
        parts=_mean_parts(rows),
        length=sum(row.num_tokens for row in rows) / answers,
        truncated=sum(row.truncated for row in rows) / answers,
    )


def _score(
    means: Sequence[float], families: Sequence[int] | None, answers: int | None, settings: IntervalSettings
) -> Interval:
    return mean_interval(means, settings, clusters=families, answers=answers) if means else NO_SCORE


def _pass_at(
    scores: Sequence[Sequence[float]], families: Sequence[int] | None, ks: Sequence[int], settings: IntervalSettings
) -> dict[int, Interval]:
    """Over the prompts that have k verdicts."""
    found = {}
    for k in ks:
        enough = [index for index, row in enumerate(scores) if len(row) >= k]
        values = [pass_at_k(len(scores[index]), int(sum(scores[index])), k) for index in enough]
        if values:
            found[k] = mean_interval(values, settings, clusters=_chosen(families, enough))
    return found


def _majority_at(
    rows: Sequence[ScoredRow], families: Sequence[int] | None, ks: Sequence[int], settings: IntervalSettings
) -> dict[int, Interval]:
    """Over the prompts that have k verdicts; of k = 1 and 2, where a majority decides nothing, only the largest k."""
    if not ks or any(row.answers is None for row in rows):
        return {}
    votes = [
        [answer for answer, reward in zip(row.answers or (), row.rewards, strict=True) if reward.error is None]
        for row in rows
    ]
    scores = [row.scores for row in rows]
    found = {}
    for k in [k for k in ks if k > 2] or ks[-1:]:
        enough = [index for index, row in enumerate(scores) if len(row) >= k]
        if enough:
            values = majority_at_k(
                [votes[index] for index in enough], [scores[index] for index in enough], k, seed=settings.seed
            )
            found[k] = mean_interval(values, settings, clusters=_chosen(families, enough))
    return found


def _chosen(families: Sequence[int] | None, indices: Sequence[int]) -> list[int] | None:
    return None if families is None else [families[index] for index in indices]


def _error_bounds(rows: Sequence[ScoredRow], scores: Sequence[Sequence[float]]) -> ErrorBounds | None:
    if not any(row.errors for row in rows):
        return None
    seen = [score for row in scores for score in row]
    inside = all(0.0 <= score <= 1.0 for score in seen)
    worst, best = (0.0, 1.0) if inside else (min(seen), max(seen))

    def mean(given: float) -> float:
        return math.fsum((math.fsum(row.scores) + row.errors * given) / len(row.rewards) for row in rows) / len(rows)

    return ErrorBounds(mean(worst), mean(best))


def _mean_parts(rows: Sequence[ScoredRow]) -> dict[str, float]:
    """The mean of each part over the answers that have it: one that failed in one function may have parts of another."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for reward in row.rewards:
            for name, value in reward.parts.items():
                values[name].append(value)
    return {name: math.fsum(found) / len(found) for name, found in sorted(values.items())}
