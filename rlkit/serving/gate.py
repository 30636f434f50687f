"""What a request passes before it reaches an engine's own server, and what new weights wait for.

request --enter--> waiting --(no update in progress)--> running --> over
update  --(closes the gate)--> waits until none is running --> loads --(opens the gate)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rlkit.protocols import ServedApp
from rlkit.serving.engine_loop import NamedTensors
from rlkit.serving.errors import APIError
from rlkit.serving.room import check_room, stopping
from rlkit.tracking.run_folder import LOGGER

UPDATE_FAILED = "the last weight update failed; nothing is answered until one succeeds"


class Gate:
    """Counts the answers in progress, waiting ones included. Belongs to the event loop."""

    def __init__(self, served: ServedApp, *, max_queue: int) -> None:
        self.draining = False
        self.in_progress = 0
        self.policy_version = 0
        self.given_up = asyncio.Event()
        self._served = served
        self._max_queue = max_queue
        self._update_failure = ""
        self._running = 0
        self._open, self._nothing_runs, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for event in (self._open, self._nothing_runs, self._idle):
            event.set()

    @property
    def failure(self) -> str:
        """Why no request can be answered; empty while they can."""
        return self._served.failure or self._update_failure

    @asynccontextmanager
    async def enter(self, answers: int) -> AsyncIterator[int]:
        """Gives the version of the weights, which stays until the block ends. Raises `APIError` 400, 429 or 503."""
        if self.draining:
            raise stopping()
        check_room(answers, in_progress=self.in_progress, most=self._max_queue)
        self.in_progress += answers
        self._idle.clear()
        try:
            while not self._open.is_set():  # another update may begin before the waiting ones are awake
                await self._open.wait()
            if self.given_up.is_set():
                raise stopping()
            if self.failure:
                raise APIError(503, self.failure, code="engine_unusable")
            self._running += 1
            self._nothing_runs.clear()
            try:
                yield self.policy_version
            finally:
                self._running -= 1
                if not self._running:
                    self._nothing_runs.set()
        finally:
            self.in_progress -= answers
            if not self.in_progress:
                self._idle.set()

    async def update_weights(self, tensors: Callable[[], NamedTensors], version: int) -> None:
        """Replace the weights as soon as nothing runs; one update at a time. Raises what the engine raises.

        After a failure the engine may hold a mixture: every request is refused until an update succeeds.
        """
        self._open.clear()
        try:
            await self._nothing_runs.wait()
            self._update_failure = UPDATE_FAILED
            await self._served.update_weights(tensors(), version)
            self._update_failure = ""
            self.policy_version = version
        except Exception:
            LOGGER.exception("the new weights could not be loaded")
            raise
        finally:
            self._open.set()

    async def wait_until_idle(self) -> None:
        """Until no answer is in progress."""
        await self._idle.wait()

    def give_up(self) -> None:
        """End every answer in progress; its client is told that the server stops."""
        self.given_up.set()
        self._open.set()
