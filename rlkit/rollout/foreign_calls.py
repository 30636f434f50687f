"""Calls of tools and environments: many at once, each for a limited time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rlkit.errors import RolloutError

MAX_ABANDONED = 32
"""Threads of hanging calls that may be alive at once: a tool that always hangs must not fill the machine with them."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CallTimeoutError(TimeoutError):
    """The call did not come back in time; its thread is left behind."""


class AbandonedCallsError(RolloutError):
    """So many calls never came back that there is no use in going on."""


@dataclass
class _Call(Generic[Result]):
    """One running call; its thread fills it, the caller reads it once it is finished or the time is up."""

    results: list[Result] = field(default_factory=list)
    error: BaseException | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def run(self, function: Callable[[], Result]) -> None:
        try:
            self.results.append(function())
        # SystemExit too: foreign code that calls sys.exit() has failed, and must not end its thread in silence.
        except BaseException as error:
            self.error = error
        finally:
            self.finished.set()


@dataclass
class ForeignCalls:
    """Runs foreign code that may raise or never come back.

    timeout_s  seconds that one call may take
    threads    calls at once
    section    config section of `tool_timeout_s`, for messages
    """

    timeout_s: float
    threads: int = 16
    section: str = "rollout"
    _abandoned: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, function: Callable[[], Result], name: str) -> Result:
        """What `function` returns. Raises what it raises, and `CallTimeoutError` when the time is up.

        Raises `AbandonedCallsError` when so many calls have been left behind that there is no use in going on.
        """
        self._check_abandoned(name)
        call: _Call[Result] = _Call()
        thread = threading.Thread(target=call.run, args=(function,), name=f"call-{name}", daemon=True)
        thread.start()
        if not call.finished.wait(self.timeout_s):
            with self._lock:
                self._abandoned.append(thread)
            raise CallTimeoutError(f"no answer within {self.timeout_s:g} s")
        if call.error is not None:
            raise call.error
        return call.results[0]

    def for_each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`function` of every item, at most `threads` at once, in the order of `items`; the first error raises."""
        if len(items) <= 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(self.threads, len(items)), thread_name_prefix="conversations") as pool:
            return list(pool.map(function, items))

    def _check_abandoned(self, name: str) -> None:
        with self._lock:
            self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
            if len(self._abandoned) >= MAX_ABANDONED:
                raise AbandonedCallsError(
                    f"{len(self._abandoned)} calls never came back, the next would be {name!r}; "
                    f"mend the tool or environment that hangs, or raise {self.section}.tool_timeout_s"
                )
