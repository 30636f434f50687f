"""What a reader of a result has to know beside its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlkit.evaluation.compare import Comparison
from rlkit.evaluation.completions import ScoredFile
from rlkit.evaluation.numbers import number
from rlkit.evaluation.summary import SourceSummary

FEW_CLUSTERS = 10


def warnings_of(files: Sequence[tuple[ScoredFile, SourceSummary]], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A sentence for each thing that is not as it should be; `files` with the summary of all their prompts."""
    for scored, overall in files:
        yield from (f"{scored.name}: {text}" for text in _of_file(scored, overall))
    for comparison in comparisons:
        if comparison.only_first or comparison.only_second:
            yield (
                f"{comparison.second}: compared on the {comparison.test.prompts} prompts in common; {comparison.only_first} are "
                f"only in {comparison.first}, {comparison.only_second} only in {comparison.second}"
            )
        if comparison.unjudged:
            yield (
                f"{comparison.second}: {_counted(comparison.unjudged, 'prompt')} without a verdict on one side left out "
                "of the comparison"
            )


def _of_file(scored: ScoredFile, overall: SourceSummary) -> Iterator[str]:
    bounds = overall.error_bounds
    if bounds is not None:
        reason = next(reward.error for row in scored.rows for reward in row.rewards if reward.error is not None)
        share = overall.is_share
        worst, best = ("all wrong", "all right") if share else ("all at the lowest score", "all at the highest")
        yield (
            f"{_counted(overall.errors, 'answer')} could not be judged and {_were(overall.errors)} left out; {worst} they "
            f"would make the score {number(bounds.low, share)}, {best} {number(bounds.high, share)}; the first: {reason}"
        )
    if scored.unanswered:
        yield (
            f"{_counted(scored.unanswered, 'prompt')} {_were(scored.unanswered)} not answered and left out; "
            "`rlkit generate --retry-failed` tries again"
        )
    fewest, most = overall.samples
    if fewest != most:
        yield f"prompts have {fewest} to {most} answers; pass@k goes up to the fewest"
    if overall.too_few:
        k, few = max(overall.too_few.items())
        yield f"pass@{k} and maj@{k} leave out {_counted(few, 'prompt')} with fewer verdicts"
    if 1 < overall.clusters < min(FEW_CLUSTERS, overall.prompts):
        yield f"only {overall.clusters} clusters: the intervals are wide, and rough"
    if "," in scored.model:
        yield f"holds answers of several models: {scored.model}"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
