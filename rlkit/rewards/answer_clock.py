"""The time that an answer may take, as a function that waits for its turn can start it anew.

Waiting for a core that other answers hold is no part of an answer: a limit on time that counted it would fail good answers
for the sake of bad ones before them.
"""

from __future__ import annotations

from collections.abc import Callable


class AnswerClock:
    """Of whatever this process judges. It does nothing where nobody measures."""

    def __init__(self) -> None:
        self._restart: Callable[[], None] | None = None

    def measured_by(self, restart: Callable[[], None]) -> None:
        """restart: begins the time of the answer at hand anew."""
        self._restart = restart

    def restart(self) -> None:
        """To be called by a reward function while it judges, only for time that was not the answer's."""
        if self._restart is not None:
            self._restart()


answer_clock = AnswerClock()
