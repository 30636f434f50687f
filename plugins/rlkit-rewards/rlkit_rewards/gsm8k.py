"""GSM8K: the final number equals that of the reference (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rlkit.types import Reward, Sample
from rlkit_rewards.extraction import after_answer_is, after_hashes, last_boxed
from rlkit_rewards.numerals import canonical, last_number, leading_number, parse_number
from rlkit_rewards.options import GSM8KOptions


class GSM8K:
    """Score 1 for the right number, `wrong_score` for another one, 0 for none.

    Parts: correct (0 or 1), answered (1 when a number was found). A reference may be a whole GSM8K solution, of
    which the number after `####` counts, or the number itself.
    """

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
        number = None if marked is None else leading_number(marked)
        if number is not None or self.options.method == "strict":
            return number
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
    boxed = last_boxed(response)
    if boxed is not None and (number := last_number(boxed)) is not None:
        return number
    stated = after_answer_is(response)
    if stated is not None and (number := _stated_number(stated)) is not None:
        return number
    return last_number(response)


def _stated_number(stated: str) -> Fraction | None:
    """Of "16 - 3 = 13 eggs" the result, of "13 eggs for 4 people" the first number."""
    sentence = stated.split(". ", 1)[0]
    if "=" in sentence:
        return last_number(sentence.rsplit("=", 1)[1])
    leading = leading_number(sentence)
    return leading if leading is not None else last_number(sentence)
