"""Stop strings in a text that arrives in pieces: the text before the first that is complete, and never a part of it."""

from __future__ import annotations

from collections.abc import Sequence


def possible_beginning(text: str, mark: str) -> int:
    """Characters at the end of `text` that may be the beginning of `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)


class StopText:
    """Holds back what may be the beginning of a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The text that is certain to stand before any stop string; empty once one was found."""
        if self.stopped:
            return ""
        self._held += text
        found = [(start + len(stop), start) for stop in self._stop if (start := self._held.find(stop)) >= 0]
        if found:
            _, start = min(found)
            self.stopped = True
            piece, self._held = self._held[:start], ""
            return piece
        certain = len(self._held) - max((possible_beginning(self._held, stop) for stop in self._stop), default=0)
        piece, self._held = self._held[:certain], self._held[certain:]
        return piece

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        piece, self._held = self._held, ""
        return piece
