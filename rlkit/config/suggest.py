"""The key that somebody meant."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

MAX_DISTANCE_SHARE = 0.5
"""A suggestion that needs more edits than half of the typed word is a guess, not a help."""


def edit_distance(left: str, right: str) -> int:
    """Deletions, insertions, substitutions and swaps of neighbours that turn one word into the other (Damerau 1964)."""
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def suggest_key(name: str, siblings: Sequence[str], anywhere: Sequence[str] = ()) -> str | None:
    """The nearest of `siblings`; failing that, a dotted key from `anywhere` whose last part is `name` or near it."""
    near = nearest_word(name, siblings)
    if near is not None:
        return near
    last_part: dict[str, str] = {}
    for key in anywhere:
        last_part.setdefault(key.rpartition(".")[2], key)
    elsewhere = nearest_word(name, list(last_part))
    return None if elsewhere is None else last_part[elsewhere]


def nearest_word(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate that takes the fewest edits, if that is at most half of the typed word."""
    lowered = name.lower().replace("-", "_")
    limit = max(1, int(len(name) * MAX_DISTANCE_SHARE))

    def rank(candidate: str) -> tuple[int, float]:
        return edit_distance(lowered, candidate), -SequenceMatcher(None, lowered, candidate).ratio()

    near = [candidate for candidate in candidates if edit_distance(lowered, candidate) <= limit]
    return min(near, key=rank) if near else None
