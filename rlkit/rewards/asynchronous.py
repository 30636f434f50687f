"""Reward functions that wait for something remote: many answers at a time in one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.jobs import Job, Patience
from rlkit.rewards.styles import Style, judge_awaited
from rlkit.rewards.verdict import Failure, Verdict, failure_of, read_verdict

BEAT_S = 0.1
STUCK_FOR_S = 1.0
"""Beyond the time limit of an answer: an event loop that has not moved for so long is held up by one that does not await."""
CLOSE_TIMEOUT_S = 5.0
MOST_STUCK = 4
"""Event loops that may be given up in one run."""


@dataclass(eq=False)
class _Loop:
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    beat: float = field(default_factory=time.monotonic)


class AsyncCalls:
    """Up to `concurrency` calls at a time. retries: how many further attempts there have been."""

    def __init__(self, styles: Mapping[int, Style], *, concurrency: int, patience: Patience) -> None:
        self._styles = styles
        self._concurrency = concurrency
        self._patience = patience
        self.retries = 0
        self._running: _Loop | None = None
        self._slots: asyncio.Semaphore
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._timeouts: Counter[int] = Counter()  # by function: in a row
        self._stuck = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Never waits. Raises `RewardError` when loops got stuck too often."""
        if self._stuck >= MOST_STUCK:
            raise RewardError(
                f"async reward functions held up their event loop {self._stuck} times; they must await whatever takes time"
            )
        running = self._running = self._running or _start()
        running.loop.call_soon_threadsafe(self._accept, running, list(jobs))

    def check(self) -> None:
        """To be called now and then while verdicts are waited for: gives up on a loop that is stuck."""
        running, limit = self._running, self._patience.timeout_s + STUCK_FOR_S
        if running is None or time.monotonic() - running.beat < limit:
            return
        self._running = None
        self._stuck += 1
        left, self._tasks = list(self._tasks.values()), {}
        reason = (
            f"the event loop was held up for more than {self._patience.timeout_s:g} s by a function that does not await"
        )
        for job in left:
            job.fail(Failure(reason, "timeout"))

    def close(self, closers: Sequence[Callable[[], Awaitable[Any]]] = ()) -> None:
        """Cancel what is left, await the `closers`, end the loop."""
        running, self._running = self._running, None
        if running is None and not closers:
            return
        running = running or _start()
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(closers), running.loop).result(CLOSE_TIMEOUT_S)
        running.loop.call_soon_threadsafe(running.loop.stop)
        running.thread.join(CLOSE_TIMEOUT_S)

    # Everything below runs in the loop.

    def _accept(self, running: _Loop, jobs: Sequence[Job]) -> None:
        if not self._tasks:
            self._slots = asyncio.Semaphore(self._concurrency)
        for job in jobs:
            task = running.loop.create_task(self._judge(job))
            self._tasks[task] = job
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _judge(self, job: Job) -> None:
        while True:
            async with self._slots:
                if job.ticket.is_cancelled or job.is_settled:
                    return
                started = time.monotonic()
                try:
                    verdicts = await self._attempt(job)
                except ConfigError as error:
                    job.ticket.stop(error)
                    return
                seconds = time.monotonic() - started
            pause = self._patience.pause_before_retry(job, verdicts)
            if pause is None:
                job.settle(verdicts, seconds)
                self._note(job, verdicts)
                return
            job.attempt += 1
            self.retries += 1
            await asyncio.sleep(pause)

    async def _attempt(self, job: Job) -> Sequence[Verdict]:
        call = asyncio.ensure_future(_all_verdicts(self._styles[job.function], job))
        deadline = time.monotonic() + self._patience.timeout_s
        # Not `wait_for`: that waits for ever for a function that swallows its cancellation.
        while not call.done() and time.monotonic() < deadline:
            await asyncio.wait({call}, timeout=min(0.5, max(0.0, deadline - time.monotonic())))
            if job.ticket.is_cancelled or job.is_settled:
                break
        if not call.done():
            call.cancel()
            return [Failure(f"no verdict within {self._patience.timeout_s:g} s", "timeout")] * len(job.samples)
        if call.cancelled():
            return [Failure("cancelled itself", "exception")] * len(job.samples)
        error = call.exception()
        if isinstance(error, ConfigError):
            raise error
        return [failure_of(error)] * len(job.samples) if error is not None else call.result()

    def _note(self, job: Job, verdicts: Sequence[Verdict]) -> None:
        """After as many timeouts in a row as there may be calls, nothing else of this function is waited for."""
        if not (isinstance(verdicts[0], Failure) and verdicts[0].kind == "timeout"):
            self._timeouts[job.function] = 0
            return
        self._timeouts[job.function] += 1
        number = self._timeouts[job.function]
        if number < max(2, self._concurrency):
            return
        self._timeouts[job.function] = 0
        given_up = Failure(
            f"given up: {number} answers in a row took longer than {self._patience.timeout_s:g} s", "timeout"
        )
        for other in [
            other for other in self._tasks.values() if other.function == job.function and not other.is_settled
        ]:
            other.fail(given_up)

    async def _end(self, closers: Sequence[Callable[[], Awaitable[Any]]]) -> None:
        for task in list(self._tasks):
            task.cancel()
        for closer in closers:
            await closer()


async def _all_verdicts(style: Style, job: Job) -> list[Verdict]:
    if not style.is_of_one_answer:
        return [read_verdict(raw) for raw in await judge_awaited(style, job.samples)]
    return [read_verdict(raw) for sample in job.samples for raw in await judge_awaited(style, [sample])]


def _start() -> _Loop:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="async rewards", daemon=True)
    running = _Loop(loop, thread)

    def beat() -> None:
        running.beat = time.monotonic()
        loop.call_later(BEAT_S, beat)

    loop.call_soon(beat)
    thread.start()
    return running
