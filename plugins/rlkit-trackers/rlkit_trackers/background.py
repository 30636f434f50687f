"""Calls that somebody else must not wait for: a bounded queue and a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

Call = Callable[[], None]


class BackgroundCalls:
    """Runs what is submitted in order, one at a time. A call that keeps raising is the last one.

    pauses_s: before each further attempt at a call that raised an `Exception`; what comes meanwhile waits. `on_failure` is
    told, on that thread, what was raised in the end. The thread never keeps the process alive.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        on_failure: Callable[[BaseException], None],
        pauses_s: Sequence[float] = (),
    ) -> None:
        self._limit = limit
        self._pauses_s = tuple(pauses_s)
        self._on_failure = on_failure
        self._waiting: deque[tuple[Call, bool]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.failed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def submit(self, call: Call, *, again: bool = True) -> bool:
        """Never waits. False when it was left out because `limit` calls are waiting; nothing happens after a failure.

        again: a call that raises is tried again.
        """
        with self._changed:
            if self.failed or self._closing:
                return True
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                return False
            self._waiting.append((call, again))
            self._changed.notify()
            return True

    def close(self, last: Call, *, timeout_s: float) -> bool:
        """Run what is waiting and then `last`, for at most `timeout_s` seconds. Whether that was enough."""
        with self._changed:
            if not self.failed and not self._closing:
                self._waiting.append((last, True))
            self._closing = True
            self._changed.notify()
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._thread.join(left)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            call, again = entry
            try:
                self._perform(call, self._pauses_s if again else ())
            except BaseException as error:  # SystemExit too: a tracker that exits must not take the thread's word along
                with self._changed:
                    self.failed = True
                    self._waiting.clear()
                self._on_failure(error)
                return

    def _perform(self, call: Call, pauses_s: Sequence[float]) -> None:
        for pause_s in pauses_s:
            try:
                return call()
            except Exception:
                if not self._pause(pause_s):
                    break
        return call()

    def _pause(self, seconds: float) -> bool:
        """False as soon as `close` waits: then there is one more attempt."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, seconds)

    def _next(self) -> tuple[Call, bool] | None:
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            return self._waiting.popleft()
