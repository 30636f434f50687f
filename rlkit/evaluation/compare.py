"""Two completions files over the prompts that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rlkit.errors import DataError
from rlkit.evaluation.completions import ScoredFile, ScoredRow
from rlkit.evaluation.paired import PairedTest, compare_paired, holm_adjusted
from rlkit.evaluation.statistics import IntervalSettings


@dataclass(frozen=True)
class Comparison:
    """A file against the first one.

    only_first, only_second  prompts that the other file lacks; they are left out
    adjusted_p_value         corrected for the number of comparisons (Holm); significant is decided by it
    """

    first: str
    second: str
    test: PairedTest
    only_first: int
    only_second: int
    adjusted_p_value: float
    significant: bool

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.significant:
            return "not significant"
        return "better" if self.test.difference > 0 else "worse"


def compare_files(files: Sequence[ScoredFile], settings: IntervalSettings) -> tuple[Comparison, ...]:
    """Every file but the first, against the first. Raises `DataError` when the prompts are not the same ones."""
    if len(files) < 2:
        return ()
    first = files[0]
    matched = [_match(first, second) for second in files[1:]]
    tests = [
        compare_paired([a.scores for a, _ in pairs], [b.scores for _, b in pairs], **asdict(settings))
        for pairs in matched
    ]
    adjusted = holm_adjusted([test.p_value for test in tests])
    return tuple(
        Comparison(
            first=first.path,
            second=second.path,
            test=test,
            only_first=len(first.rows) - len(pairs),
            only_second=len(second.rows) - len(pairs),
            adjusted_p_value=p_value,
            significant=p_value < 1 - settings.confidence,
        )
        for second, pairs, test, p_value in zip(files[1:], matched, tests, adjusted, strict=True)
    )


def _match(first: ScoredFile, second: ScoredFile) -> list[tuple[ScoredRow, ScoredRow]]:
    """The rows of both files by row_id, in the first file's order."""
    by_id = {row.prompt.row_id: row for row in second.rows}
    pairs = [(row, by_id[row.prompt.row_id]) for row in first.rows if row.prompt.row_id in by_id]
    if not pairs:
        raise DataError(f"{first.path} and {second.path} have no row_id in common; they cannot be compared")
    different = [a.prompt.row_id for a, b in pairs if not _same_prompt(a, b)]
    if different:
        raise DataError(
            f"{first.path} and {second.path} hold different prompts under the same row_id in {len(different)} of "
            f"{len(pairs)} rows, first in row {different[0]}; compare completions of one prompts file"
        )
    return pairs


def _same_prompt(first: ScoredRow, second: ScoredRow) -> bool:
    a, b = first.prompt, second.prompt
    return (a.question, a.reference, a.data_source) == (b.question, b.reference, b.data_source)
