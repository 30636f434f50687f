"""Questions that come one by one, asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from rlkit.types import Reward, Sample

WAIT_S = 0.01
"""How long the first question of a batch waits for others: little beside a request, enough for those asked with it."""

Waiting = tuple[Sample, "asyncio.Future[Reward]"]


class Batches:
    """`ask` returns the verdict on one sample; `ask_many` is called with up to `size` of those that were asked meanwhile.

    What `ask_many` raises goes to each of its samples.
    """

    def __init__(self, ask_many: Callable[[Sequence[Sample]], Awaitable[Sequence[Reward]]], size: int) -> None:
        self._ask_many = ask_many
        self._size = size
        self._waiting: list[Waiting] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, sample: Sample) -> Reward:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._waiting = loop, []
        verdict: asyncio.Future[Reward] = loop.create_future()
        self._waiting.append((sample, verdict))
        if len(self._waiting) >= self._size:
            self._send()
        elif len(self._waiting) == 1:
            loop.call_later(WAIT_S, self._send)
        return await verdict

    def _send(self) -> None:
        # Whoever asked may have given up meanwhile.
        batch = [(sample, verdict) for sample, verdict in self._waiting if not verdict.done()]
        self._waiting = []
        if not batch:
            return
        task = asyncio.ensure_future(self._answer(batch))
        self._running.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._running.discard)

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        try:
            rewards = await self._ask_many([sample for sample, _ in batch])
        except Exception as error:
            for _, verdict in batch:
                if not verdict.done():
                    verdict.set_exception(error)
            return
        for (_, verdict), reward in zip(batch, rewards, strict=True):
            if not verdict.done():
                verdict.set_result(reward)
