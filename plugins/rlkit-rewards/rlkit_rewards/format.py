"""The answer has a certain form, whatever it says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlkit.types import Reward, Sample
from rlkit_rewards.options import FormatOptions


class Format:
    """Score 1 when the response matches the pattern, else 0."""

    judges_apart = True

    def __init__(self, options: FormatOptions) -> None:
        self.options = options
        self.pattern = re.compile(options.pattern, re.DOTALL | (re.IGNORECASE if options.ignore_case else 0))

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [Reward(float(self._matches(sample.response))) for sample in samples]

    def _matches(self, response: str) -> bool:
        if self.options.match == "full":
            return self.pattern.fullmatch(response.strip()) is not None
        return self.pattern.search(response) is not None
