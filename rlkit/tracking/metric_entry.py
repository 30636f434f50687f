"""How a metric, or a family of metrics, is described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

Better = Literal["up", "down", "neither"]

_PLACEHOLDER = re.compile(r"<([^<>]+)>")


@dataclass(frozen=True)
class MetricEntry:
    """One line of the table.

    name    `area/name`; `<part>` stands for any words, `<k>` for a number, `<mean|max>` for one of the words it lists
    unit    "" for a plain number; "share" lies between 0 and 1
    better  the direction that one hopes for
    runs    kinds of run that report it: ppo, sft, generate
    when    what such a run must have or do; "" for always
    """

    name: str
    unit: str
    meaning: str
    better: Better = "neither"
    runs: tuple[str, ...] = ("ppo",)
    when: str = ""

    @property
    def area(self) -> str:
        return self.name.partition("/")[0]

    @property
    def patterns(self) -> Iterator[str]:
        """The names with every listed alternative put in; what is left between `<` and `>` stands for any words."""
        pieces = _PLACEHOLDER.split(self.name)
        choices = [
            [piece] if position % 2 == 0 else piece.split("|") if "|" in piece else [f"<{piece}>"]
            for position, piece in enumerate(pieces)
        ]
        for chosen in product(*choices):
            yield "".join(chosen)

    def describes(self, name: str) -> bool:
        return self._expression.fullmatch(name) is not None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile("|".join(expression_of(pattern) for pattern in self.patterns))


def expression_of(pattern: str) -> str:
    """A regular expression for one of `MetricEntry.patterns`."""
    pieces = _PLACEHOLDER.split(pattern)
    return "".join(
        re.escape(piece) if position % 2 == 0 else r"\d+" if piece == "k" else ".+"
        for position, piece in enumerate(pieces)
    )
