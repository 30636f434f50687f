"""Mathematics with short final answers: numbers, fractions, simple LaTeX, tuples and sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rlkit.types import Reward, Sample
from rlkit_rewards.extraction import after_answer_is, after_hashes, last_boxed, last_formula
from rlkit_rewards.latex import normalise_latex, slashed_fractions
from rlkit_rewards.numerals import canonical, last_number, parse_number, stated_in_words
from rlkit_rewards.options import MathOptions
from rlkit_rewards.symbolic import build_verifier

_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}"}


class Math:
    """Score 1 for a right answer, else 0. Parts: correct, answered (1 when a final answer was found)."""

    judges_apart = True

    def __init__(self, options: MathOptions) -> None:
        self.options = options
        self.verify = build_verifier(options.verifier)

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample) for sample in samples]

    def extract_answer(self, response: str) -> str | None:
        """The final answer in one spelling; None when there is none."""
        readings = find_answer(response, boxed_only=self.options.boxed_only)
        return one_spelling(readings[-1]) if readings else None

    def _judge(self, sample: Sample) -> Reward:
        expected = reference_answer(sample.prompt.reference)
        readings = find_answer(sample.response, boxed_only=self.options.boxed_only)
        if not readings:
            return Reward(0.0, {"correct": 0.0, "answered": 0.0})
        correct = any(self.is_right(reading, expected) for reading in readings)
        return Reward(float(correct), {"correct": float(correct), "answered": 1.0})

    def is_right(self, given: str, expected: str) -> bool:
        """Whether two short answers mean the same."""
        mine, right = one_spelling(given), one_spelling(expected)
        if mine == right or self.verify is None:
            return mine == right
        # Capital and small letters are different symbols, which math-verify does not know.
        return mine.casefold() != right.casefold() and self.verify(given, expected)


def reference_answer(reference: Any) -> str:
    """The final answer of a reference: boxed, after `####`, or the whole of it. Raises `ValueError` for none."""
    text = "" if reference is None else str(reference).strip()
    answer = last_boxed(text) or after_hashes(text) or text
    if not answer.strip():
        raise ValueError("the row has no reference answer (see data.reference_key)")
    return answer


def find_answer(response: str, *, boxed_only: bool) -> tuple[str, ...]:
    """Readings of the final answer, none when there is no answer.

    Boxed: as it is written. Stated ("the answer is", `####`): as it is written, and the number where nothing but words is
    around it. Else the last formula, else the last number.
    """
    boxed = last_boxed(response)
    if boxed is not None and boxed.strip():
        return (boxed,)
    if boxed_only:
        return ()
    marked = after_hashes(response) or after_answer_is(response)
    if marked is not None and marked.strip(" .*:$"):
        stated = _clipped(marked)
        number = stated_in_words(stated)
        return (stated,) if number is None else (stated, canonical(number))
    formula = last_formula(response)
    if formula is not None and formula.strip():
        return (formula.rsplit("=", 1)[-1],)  # of "$x = 3$" the right-hand side
    number = last_number(response)
    return () if number is None else (canonical(number),)


def one_spelling(answer: str) -> str:
    r"""Equal answers in equal words: 0.5, \frac12 and 1/2 are all `1/2`; sets are sorted, tuples keep their order."""
    text = normalise_latex(answer)
    if (number := parse_number(slashed_fractions(text))) is not None:
        return canonical(number)
    bracketed = _bracketed(text)
    if bracketed is not None:
        opening, inner, closing = bracketed
        elements = [_element(part) for part in _split(inner)]
        if opening == r"\{":
            elements.sort()
        return f"{opening}{','.join(elements)}{closing}"
    parts = _split(text)
    if len(parts) > 1:
        return ",".join(sorted(_element(part) for part in parts))
    return _element(text)


def _element(text: str) -> str:
    number = parse_number(slashed_fractions(text))
    if number is not None:
        return canonical(number)
    choice = re.fullmatch(r"\(([A-Za-z])\)", text)
    if choice is not None:
        return choice[1]
    # Words are compared without case; in formulae \Delta and \delta differ.
    return text.casefold() if len(text) > 1 and text.isalpha() else text


def _bracketed(text: str) -> tuple[str, str, str] | None:
    """Opening bracket, content and closing bracket (half-open intervals too), when there are elements inside."""
    for opening in _BRACKETS:
        for closing in _BRACKETS.values():
            same_family = (opening == r"\{") == (closing == r"\}")
            if same_family and text.startswith(opening) and text.endswith(closing):
                inner = text[len(opening) : len(text) - len(closing)]
                return (opening, inner, closing) if len(_split(inner)) > 1 or opening == r"\{" else None
    return None


def _split(text: str) -> list[str]:
    """Parts between the commas outside all brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _clipped(stated: str) -> str:
    r"""What is stated, up to the end of its sentence; of "$\frac12$ of it" the formula."""
    formula = re.match(r"[\s*:]*(?:\$(.+?)\$|\\\((.+?)\\\))", stated)
    if formula is not None:
        return formula[1] or formula[2]
    return re.split(r"\.(?:\s|$)", stated, maxsplit=1)[0].strip(" *:`")
