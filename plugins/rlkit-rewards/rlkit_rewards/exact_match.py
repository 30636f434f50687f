"""The answer equals the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rlkit.types import Reward, Sample
from rlkit_rewards.numerals import canonical, parse_number
from rlkit_rewards.options import ExactMatchOptions


class ExactMatch:
    """Score 1 when the (extracted) answer equals the reference, or any of several when the reference is a list; else 0."""

    judges_apart = True

    def __init__(self, options: ExactMatchOptions) -> None:
        self.options = options
        self.pattern = re.compile(options.extract, re.DOTALL) if options.extract else None

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [Reward(float(self._is_right(sample))) for sample in samples]

    def extract_answer(self, response: str) -> str | None:
        """The answer as it is compared; None when there is none."""
        found = self._find(response)
        return None if found is None else self._normalised(found)

    def _is_right(self, sample: Sample) -> bool:
        accepted = {self._reference(value) for value in _as_list(sample.prompt.reference)}
        return self.extract_answer(sample.response) in accepted

    def _reference(self, value: Any) -> str:
        normalised = self._normalised(self._after_marker(str(value)))
        if normalised is None:
            raise ValueError(f"the reference {value!r} is not a number, but reward.options.exact_match.numeric is on")
        return normalised

    def _find(self, response: str) -> str | None:
        if self.pattern is None:
            return self._after_marker(response)
        found = None
        for found in self.pattern.finditer(response):  # noqa: B007 - the last one is wanted
            pass
        if found is None:
            return None
        return found[1] if self.pattern.groups else found[0]

    def _after_marker(self, text: str) -> str:
        marker = self.options.marker
        if not marker or marker not in text:
            return text
        return text.rpartition(marker)[2].strip().split("\n", 1)[0]

    def _normalised(self, text: str | None) -> str | None:
        if text is None:
            return None
        if self.options.numeric:
            number = parse_number(text)
            return None if number is None else canonical(number)
        if self.options.strip:
            text = text.strip()
        return text.casefold() if self.options.ignore_case else text


def _as_list(reference: Any) -> Sequence[Any]:
    if reference is None:
        raise ValueError("the row has no reference answer (see data.reference_key)")
    if isinstance(reference, list | tuple):
        if not reference:
            raise ValueError("the row's list of reference answers is empty")
        return reference
    return [reference]
