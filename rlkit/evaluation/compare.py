"""Completions files over the prompts that both have: each with the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.errors import DataError
from rlkit.evaluation.completions import ScoredFile, ScoredRow
from rlkit.evaluation.paired import PairedTest, compare_paired, holm_adjusted
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.summary import cluster_numbers


@dataclass(frozen=True)
class Comparison:
    """A file against the first one.

    only_first, only_second  prompts that the other file lacks; they are left out
    unjudged                 prompts without a single verdict in one of the files; they are left out
    adjusted_p_value         corrected for the number of comparisons (Holm); significant is decided by it
    is_share                 all scores are 0 or 1, so that the difference is one of percentage points
    higher_is_better         of the scores; None: unknown, or not of all of them
    """

    first: str
    second: str
    test: PairedTest
    only_first: int
    only_second: int
    unjudged: int
    adjusted_p_value: float
    significant: bool
    is_share: bool
    higher_is_better: bool | None = True

    @property
    def verdict(self) -> str:
        """In words: better or worse, and where nobody has said which is which, higher or lower."""
        if not self.significant:
            return "not significant"
        is_higher = self.test.difference > 0
        if self.higher_is_better is None:
            return "higher" if is_higher else "lower"
        return "better" if is_higher == self.higher_is_better else "worse"


def compare_files(
    files: Sequence[ScoredFile], settings: IntervalSettings, *, cluster: str = ""
) -> tuple[Comparison, ...]:
    """Every file but the first, against the first; `cluster` as in `summarise`. Raises `DataError` when the prompts are not the same ones."""
    if len(files) < 2:
        return ()
    first = files[0]
    matched = [_match(first, second) for second in files[1:]]
    judged = [[(a, b) for a, b in pairs if a.scores and b.scores] for pairs in matched]
    for second, pairs in zip(files[1:], judged, strict=True):
        if not pairs:
            raise DataError(f"{first.name} and {second.name} have no prompt on which both could be judged")
    tests = [
        compare_paired(
            [a.scores for a, _ in pairs],
            [b.scores for _, b in pairs],
            clusters=cluster_numbers([a for a, _ in pairs], cluster),
            confidence=settings.confidence,
            comparisons=len(files) - 1,
            seed=settings.seed,
        )
        for pairs in judged
    ]
    adjusted = holm_adjusted([test.p_value for test in tests])
    return tuple(
        Comparison(
            first=first.name,
            second=second.name,
            test=tests[index],
            only_first=len(first.rows) - len(matched[index]),
            only_second=len(second.rows) - len(matched[index]),
            unjudged=len(matched[index]) - len(judged[index]),
            adjusted_p_value=adjusted[index],
            significant=adjusted[index] <= 1 - settings.confidence,
            is_share=all(score in (0.0, 1.0) for pair in judged[index] for row in pair for score in row.scores),
            higher_is_better=_direction(judged[index]),
        )
        for index, second in enumerate(files[1:])
    )


def _match(first: ScoredFile, second: ScoredFile) -> list[tuple[ScoredRow, ScoredRow]]:
    """The rows of both files by row_id, in the first file's order."""
    by_id = {row.prompt.row_id: row for row in second.rows}
    pairs = [(row, by_id[row.prompt.row_id]) for row in first.rows if row.prompt.row_id in by_id]
    if not pairs:
        raise DataError(f"{first.name} and {second.name} have no row_id in common; they cannot be compared")
    different = [a.prompt.row_id for a, b in pairs if not _same_prompt(a, b)]
    if different:
        raise DataError(
            f"{first.name} and {second.name} hold different prompts under the same row_id in {len(different)} of "
            f"{len(pairs)} rows, first in row {different[0]}; compare completions of one prompts file"
        )
    return pairs


def _same_prompt(first: ScoredRow, second: ScoredRow) -> bool:
    return _identity(first) == _identity(second)


def _identity(row: ScoredRow) -> tuple[str, object, str]:
    prompt = row.prompt
    return (row.identity or prompt.question, prompt.reference, prompt.data_source)


def _direction(pairs: Sequence[tuple[ScoredRow, ScoredRow]]) -> bool | None:
    directions = {row.higher_is_better for pair in pairs for row in pair}
    return directions.pop() if len(directions) == 1 else None
