"""GSM8K: the final number equals that of the reference (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rlkit.types import Reward, Sample
from rlkit_rewards.extraction import after_answer_is, after_hashes, last_boxed
from rlkit_rewards.numerals import (
    begins_with_numeral,
    canonical,
    last_number,
    leading_number,
    parse_number,
    stated_number,
)
from rlkit_rewards.options import GSM8KOptions


class GSM8K:
    """Score 1 for the right number, `wrong_score` for another one, 0 for none.

    Parts: correct (0 or 1), answered (1 when a number was found). A reference may be a whole GSM8K solution, of
    which the number after `####` counts, or the number itself.
    """

    judges_apart = True

    def __init__(self, options: GSM8KOptions) -> None:
        self.options = options

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample) for sample in samples]

    def extract_answer(self, response: str) -> str | None:
        """The final number in one spelling; None when there is none."""
        number = self._find(response)
        return None if number is None else canonical(number)

    def _judge(self, sample: Sample) -> Reward:
        expected = reference_number(sample.prompt.reference)
        given = self._find(sample.response)
        if given is None:
            return Reward(0.0, {"correct": 0.0, "answered": 0.0})
        if given == expected:
            return Reward(1.0, {"correct": 1.0, "answered": 1.0})
        return Reward(self.options.wrong_score, {"correct": 0.0, "answered": 1.0})

    def _find(self, response: str) -> Fraction | None:
        marked = after_hashes(response)
        if self.options.method == "strict":
            return None if marked is None else leading_number(marked)
        if marked is not None and begins_with_numeral(marked):
            return stated_number(marked)
        return _flexible(response)


def reference_number(reference: Any) -> Fraction:
    """The number of a reference. Raises `ValueError` when it has none."""
    text = "" if reference is None else str(reference)
    marked = after_hashes(text)
    number = parse_number(text) if marked is None else leading_number(marked)
    if number is None:
        shown = text if len(text) <= 60 else f"...{text[-57:]}"
        raise ValueError(f"the reference {shown!r} is neither a number nor a solution that ends in '#### N'")
    return number


def _flexible(response: str) -> Fraction | None:
    for stated in (last_boxed(response), after_answer_is(response)):
        if stated is None:
            continue
        number = stated_number(stated)
        if number is not None or begins_with_numeral(stated):
            return number
    return last_number(response)
