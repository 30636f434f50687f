"""How often replicas may be started anew."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class RestartBudget:
    """At most `limit` restarts in any `window_s` seconds. total counts all that were allowed."""

    def __init__(self, limit: int, window_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.window_s = window_s
        self.total = 0
        self._now = now
        self._recent: deque[float] = deque()

    def take(self) -> bool:
        """Whether one more is allowed now; if so, it is counted."""
        now = self._now()
        while self._recent and now - self._recent[0] >= self.window_s:
            self._recent.popleft()
        if len(self._recent) >= self.limit:
            return False
        self._recent.append(now)
        self.total += 1
        return True

    def __str__(self) -> str:
        return f"{len(self._recent)} of at most {self.limit} in {self.window_s:g} s"
