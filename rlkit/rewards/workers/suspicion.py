"""Whether a function hangs whatever it is asked, or has met some answers that it hangs on.

an answer took too long      the function is suspected: what has not begun is parked, what is at work has its whole time
fewer at work than PROBES    parked answers are tried one at a time, from all over the batch: neighbours may hang alike
a verdict, whenever          no suspicion any more; what is parked goes on
no probe comes to an end     the function is given up: one time limit has passed, and not one for each answer
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlkit.rewards.jobs import Job

PROBES = 4
"""Answers tried before a function is given up, besides those that took too long."""
GRACE_S = 0.5
"""A probe has so long at least, and as long as the slowest verdict before took: seldom a time limit more."""


@dataclass(eq=False)
class Suspicion:
    """Of one function, from an answer that took too long to the next verdict.

    grace_s        for a probe: a call that began after the suspicion arose
    timeouts       answers that took too long; failed_probes: those of them that were probes
    """

    grace_s: float
    since: float = field(default_factory=time.monotonic)
    parked: deque[Job] = field(default_factory=deque)
    timeouts: int = 0
    failed_probes: int = 0

    def note_timeout(self, seconds: float) -> None:
        """An answer has taken too long, `seconds` until now."""
        self.timeouts += 1
        self.failed_probes += self._is_probe(seconds)

    def is_certain(self, running: Sequence[float]) -> bool:
        """Whether nothing is left to hope for; running: the seconds that each call at work has taken until now."""
        if not all(seconds > self.grace_s and self._is_probe(seconds) for seconds in running):
            return False
        if self.parked:
            return self.failed_probes + len(running) >= PROBES
        # The last ones have their whole time, unless many have failed before them.
        return not running or self.timeouts + len(running) > PROBES

    def take_probes(self, running: int) -> list[Job]:
        """The parked jobs to be tried now, while `running` calls are at work."""
        probes: list[Job] = []
        while self.parked and self.failed_probes + running + len(probes) < PROBES:
            self.parked.rotate(-(len(self.parked) // PROBES))
            probes.append(self.parked.popleft())
        return probes

    def _is_probe(self, seconds: float) -> bool:
        return time.monotonic() - seconds > self.since


class Suspicions:
    """By the number of the function."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._slowest: dict[int, float] = {}
        self._of: dict[int, Suspicion] = {}

    def __contains__(self, function: int) -> bool:
        return function in self._of

    def all(self) -> list[tuple[int, Suspicion]]:
        """Every suspected function."""
        return list(self._of.items())

    def note_timeout(self, function: int, seconds: float) -> None:
        """An answer has taken too long, `seconds` until now."""
        if function not in self._of:
            grace_s = max(GRACE_S, self._slowest.get(function, 0.0))
            self._of[function] = Suspicion(min(grace_s, self._timeout_s))
        self._of[function].note_timeout(seconds)

    def note_verdict(self, function: int, seconds: float) -> Sequence[Job]:
        """A call has come to an end; the jobs that were parked until then."""
        self._slowest[function] = max(seconds, self._slowest.get(function, 0.0))
        return self.drop(function)

    def drop(self, function: int) -> Sequence[Job]:
        """No suspicion any more; what was parked."""
        suspicion = self._of.pop(function, None)
        return () if suspicion is None else suspicion.parked
