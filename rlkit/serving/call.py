"""The answers to one HTTP request, on their way from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from rlkit.types import CompletionChunk, CompletionRequest


class Call:
    """Belongs to the event loop; the engine's thread hands events over through `EngineLoop`."""

    def __init__(self, requests: Sequence[CompletionRequest]) -> None:
        self.requests = tuple(requests)
        self.started = time.monotonic()
        self.first_token_s: float | None = None
        self._running = {request.request_id: index for index, request in enumerate(requests)}
        self._accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[CompletionChunk | Exception] = asyncio.Queue()

    @property
    def running_ids(self) -> tuple[str, ...]:
        """Requests whose last chunk has not been read, or that were not left out."""
        return tuple(self._running)

    async def accepted(self) -> int:
        """Waits until the engine has taken every request; the policy version that answers them all."""
        return await self._accepted

    async def chunks(self) -> AsyncIterator[tuple[int, CompletionChunk]]:
        """Chunks as they come, each with its request's index, until every request is over."""
        while self._running:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            index = self._running.get(event.request_id)
            if index is None:
                continue  # of a request that was left out
            if event.finish_reason is not None:
                del self._running[event.request_id]
            yield index, event

    def leave_out(self, request_id: str) -> None:
        """Stop listening to one request: its answer has ended for a reason that the engine does not know."""
        self._running.pop(request_id, None)

    def accept(self, policy_version: int) -> None:
        if not self._accepted.done():
            self._accepted.set_result(policy_version)

    def add(self, chunk: CompletionChunk) -> None:
        if self.first_token_s is None and chunk.token_ids:
            self.first_token_s = time.monotonic() - self.started
        self._events.put_nowait(chunk)

    def fail(self, error: Exception) -> None:
        """Ends everything that is still running."""
        if self._accepted.done():
            self._events.put_nowait(error)
        else:
            self._accepted.set_exception(error)
            self._accepted.exception()  # read here, so that nobody complains when the client has gone
