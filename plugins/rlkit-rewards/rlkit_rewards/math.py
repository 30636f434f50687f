"""Mathematics with short final answers: numbers, fractions, simple LaTeX, tuples and sets."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from rlkit.errors import MissingRequirementError
from rlkit.types import Reward, Sample
from rlkit_rewards.extraction import after_answer_is, after_hashes, last_boxed
from rlkit_rewards.latex import normalise_latex, slashed_fractions
from rlkit_rewards.numerals import canonical, last_number, parse_number
from rlkit_rewards.options import MathOptions

_DISPLAYED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}"}


class Math:
    """Score 1 for a right answer, else 0. Parts: correct, answered (1 when a final answer was found)."""

    def __init__(self, options: MathOptions) -> None:
        self.options = options
        self.verify = _load_math_verify() if options.verifier == "math_verify" else None

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample) for sample in samples]

    def extract_answer(self, response: str) -> str | None:
        """The final answer in one spelling; None when there is none."""
        found = find_answer(response, boxed_only=self.options.boxed_only)
        return None if found is None else one_spelling(found)

    def _judge(self, sample: Sample) -> Reward:
        expected = reference_answer(sample.prompt.reference)
        found = find_answer(sample.response, boxed_only=self.options.boxed_only)
        if found is None:
            return Reward(0.0, {"correct": 0.0, "answered": 0.0})
        correct = is_equal(found, expected) or (self.verify is not None and self.verify(found, expected))
        return Reward(float(correct), {"correct": float(correct), "answered": 1.0})


def reference_answer(reference: Any) -> str:
    """The final answer of a reference: boxed, after `####`, or the whole of it. Raises `ValueError` for none."""
    text = "" if reference is None else str(reference).strip()
    answer = last_boxed(text) or after_hashes(text) or text
    if not answer.strip():
        raise ValueError("the row has no reference answer (see data.reference_key)")
    return answer


def find_answer(response: str, *, boxed_only: bool) -> str | None:
    """The final answer of a response, as it is written there; None when there is none."""
    boxed = last_boxed(response)
    if boxed is not None and boxed.strip():
        return boxed
    if boxed_only:
        return None
    marked = after_hashes(response) or after_answer_is(response)
    if marked is not None and marked.strip(" .*:$"):
        return _clipped(marked)
    displayed = None
    for displayed in _DISPLAYED.finditer(response):  # noqa: B007 - the last one is wanted
        pass
    if displayed is not None:
        # Of "$x = 3$" the right-hand side is the answer.
        return next(group for group in displayed.groups() if group is not None).rsplit("=", 1)[-1]
    number = last_number(response)
    return None if number is None else canonical(number)


def is_equal(given: str, expected: str) -> bool:
    """Whether two short answers mean the same: as text in one spelling, as numbers, or element by element."""
    return one_spelling(given) == one_spelling(expected)


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
    return re.split(r"\.(?:\s|$)", stated, maxsplit=1)[0].strip(" *:")


def _load_math_verify() -> Callable[[str, str], bool]:
    try:
        module = importlib.import_module("math_verify")
    except ImportError as error:
        raise MissingRequirementError(
            "reward.options.math.verifier = math_verify needs the package of that name: pip install math-verify"
        ) from error

    def verify(given: str, expected: str) -> bool:
        # Its own time limits use signals, which only the main thread has; the scorer has a deadline of its own.
        gold = module.parse(f"${expected}$", parsing_timeout=None)
        answer = module.parse(f"${given}$", parsing_timeout=None)
        return bool(module.verify(gold, answer, timeout_seconds=None))

    return verify
