"""One data source's result (or all of them together) in numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rlkit.evaluation.completions import ScoredRow
from rlkit.evaluation.pass_at_k import majority_score, pass_at_k, useful_ks
from rlkit.evaluation.statistics import Interval, IntervalSettings, are_binary, mean_interval, sampled_mean_interval

ALL_SOURCES = "all"


@dataclass(frozen=True)
class SourceSummary:
    """What the answers to one data source's prompts are worth.

    samples      fewest and most answers to a prompt
    score        mean over prompts of each prompt's mean score (mean@k)
    pass_at      pass@k by k; empty for one answer a prompt and for scores that are not 0 or 1
    majority     maj@k over all answers; None for one answer a prompt, and when the reward extracts no answers
    errors       answers that could not be judged (they count as 0)
    parts        mean of every named part
    length       mean length in tokens; truncated: share of answers that were cut at the limit
    """

    data_source: str
    prompts: int
    samples: tuple[int, int]
    score: Interval
    pass_at: Mapping[int, Interval]
    majority: Interval | None
    errors: int
    parts: Mapping[str, float]
    length: float
    truncated: float


def summarise(rows: Sequence[ScoredRow], settings: IntervalSettings) -> tuple[SourceSummary, ...]:
    """All rows together first, then, when there are several, each data source in alphabetical order."""
    groups: dict[str, list[ScoredRow]] = defaultdict(list)
    for row in rows:
        groups[row.prompt.data_source].append(row)
    named = sorted(groups.items())
    if len(named) == 1:
        return (_summary(named[0][0], rows, settings),)
    return tuple(_summary(name, group, settings) for name, group in [(ALL_SOURCES, rows), *named])


def _summary(name: str, rows: Sequence[ScoredRow], settings: IntervalSettings) -> SourceSummary:
    scores = [row.scores for row in rows]
    answers = sum(map(len, scores))
    fewest, most = min(map(len, scores)), max(map(len, scores))

    options = asdict(settings)

    passes: dict[int, Interval] = {}
    if fewest > 1 and all(are_binary(row) for row in scores):
        for k in useful_ks(fewest):
            passes[k] = mean_interval([pass_at_k(len(row), int(sum(row)), k) for row in scores], **options)
    majority = None
    if fewest > 1 and all(row.answers is not None for row in rows):
        majority = mean_interval([majority_score(row.answers or (), row.scores) for row in rows], **options)
    return SourceSummary(
        data_source=name,
        prompts=len(rows),
        samples=(fewest, most),
        score=sampled_mean_interval(scores, **options),
        pass_at=passes,
        majority=majority,
        errors=sum(reward.error is not None for row in rows for reward in row.rewards),
        parts=_mean_parts(rows),
        length=sum(row.num_tokens for row in rows) / answers,
        truncated=sum(row.truncated for row in rows) / answers,
    )


def _mean_parts(rows: Sequence[ScoredRow]) -> dict[str, float]:
    """The mean of each part over the answers that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for reward in row.rewards:
            for name, value in reward.parts.items():
                values[name].append(value)
    return {name: math.fsum(found) / len(found) for name, found in sorted(values.items())}
