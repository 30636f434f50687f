"""The thread that owns the engine.

event loop --commands (submit, abort, update, stop)--> this thread --events (accepted, chunk, failure)--> event loop

The engine is touched by this thread alone, and calls by the event loop alone.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rlkit.errors import ModelError
from rlkit.protocols import ServingEngine
from rlkit.serving.call import Call
from rlkit.tracking.run_folder import LOGGER
from rlkit.types import CompletionChunk

if TYPE_CHECKING:
    from torch import Tensor

NamedTensors = Iterable[tuple[str, "Tensor"]]
Event = Callable[[], None]


class EngineFaultError(Exception):
    """The engine failed while it was answering; the requests that were live are lost."""


class EngineUnusableError(Exception):
    """The engine has no whole set of weights, or its thread has ended."""


@dataclass(frozen=True, eq=False)
class _Update:
    tensors: Callable[[], NamedTensors]
    version: int
    done: asyncio.Future[None]


class EngineLoop:
    """Drives a `ServingEngine`. All public methods are called from the event loop and return at once.

    New weights wait until every answer in progress is finished, and requests that come meanwhile wait for the new
    weights: an answer comes from one policy, and no request is lost.
    """

    def __init__(self, engine: ServingEngine, *, on_tokens: Callable[[int], None] = lambda count: None) -> None:
        self.policy_version = 0
        self.failure = ""  # why no request can be answered
        self._engine = engine
        self._on_tokens = on_tokens
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._calls: dict[str, Call] = {}  # by request id, of what the engine works on
        self._held: list[Call] = []  # came while an update was waiting
        self._updates: list[_Update] = []
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="rlkit-engine", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running; a stopped one may still be in its last step."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; events go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, call: Call) -> None:
        """Ask for all answers of `call`, under one version of the weights; raises `EngineUnusableError`."""
        if self.failure:
            raise EngineUnusableError(self.failure)
        self._commands.put(partial(self._take, call))

    def abort(self, call: Call, request_ids: Iterable[str]) -> None:
        """Stop working on some of the call's requests."""
        self._commands.put(partial(self._drop, call, tuple(request_ids)))

    async def update_weights(self, tensors: Callable[[], NamedTensors], version: int) -> None:
        """Replace the weights as soon as nothing is in progress. Raises what the engine raises.

        After a failure the engine may hold a mixture: every request is refused until an update succeeds.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands.put(partial(self._updates.append, _Update(tensors, version, done)))
        await done

    def stop(self, *, timeout_s: float) -> bool:
        """End the thread after its present step and close the engine; False when it takes longer than `timeout_s`."""
        self.failure = self.failure or "the server is stopping"
        self._commands.put(self._stop)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._obey(wait=not (self._engine.has_work or self._updates))
                if not self._stopping:
                    self._advance()
            self._engine.close()
        except Exception:
            LOGGER.exception("the engine's thread has ended")
            self.failure = "the engine is gone; the server's log says why, and a restart helps"
        finally:
            self._tell_all(EngineUnusableError(self.failure))

    def _obey(self, *, wait: bool) -> None:
        """Carry out all commands that are there; `wait` for at least one."""
        try:
            self._commands.get(block=wait)()
            while True:
                self._commands.get_nowait()()
        except queue.Empty:
            return

    def _advance(self) -> None:
        if self._updates and not self._engine.has_work:
            self._update(self._updates.pop(0))
        if self._engine.has_work:
            try:
                self._deliver(self._engine.step())
            except Exception as error:
                LOGGER.exception("the engine failed; %d answers are lost", len(self._calls))
                fault = EngineFaultError(str(error) or type(error).__name__)
                self._engine.abort(list(self._calls))
                lost, self._calls = dict.fromkeys(self._calls.values()), {}
                self._send(*(partial(call.fail, fault) for call in lost))

    def _take(self, call: Call) -> None:
        if self._updates:
            self._held.append(call)
            return
        if self.failure:  # it came while the update that failed was being loaded
            self._send(partial(call.fail, EngineUnusableError(self.failure)))
            return
        submitted: list[str] = []
        try:
            for request in call.requests:
                self._engine.submit(request)
                submitted.append(request.request_id)
        except Exception as error:
            self._engine.abort(submitted)
            self._send(partial(call.fail, error if isinstance(error, ModelError) else EngineFaultError(str(error))))
            return
        self._calls.update((request_id, call) for request_id in submitted)
        self._send(partial(call.accept, self.policy_version))

    def _drop(self, call: Call, request_ids: tuple[str, ...]) -> None:
        self._held = [held for held in self._held if held is not call]
        live = [request_id for request_id in request_ids if self._calls.pop(request_id, None) is not None]
        if live:
            self._engine.abort(live)

    def _deliver(self, chunks: Iterable[CompletionChunk]) -> None:
        events: list[Event] = []
        count = 0
        for chunk in chunks:
            call = self._calls.get(chunk.request_id)
            if call is None:
                continue
            if chunk.finish_reason is not None:
                del self._calls[chunk.request_id]
            count += len(chunk.token_ids)
            events.append(partial(call.add, chunk))
        if events:
            self._send(partial(self._on_tokens, count), *events)

    def _update(self, update: _Update) -> None:
        try:
            self._engine.update_weights(update.tensors(), update.version)
        except Exception as error:
            LOGGER.exception("the new weights could not be loaded")
            self.failure = "the last weight update failed; nothing is answered until one succeeds"
            self._send(partial(_settle, update.done, error))
        else:
            self.failure = ""
            self.policy_version = update.version
            self._send(partial(_settle, update.done, None))
        if self._updates:
            return
        held, self._held = self._held, []
        for call in held:
            self._take(call)

    def _tell_all(self, error: Exception) -> None:
        """The thread ends: nobody may go on waiting for it."""
        self._send(*(partial(call.fail, error) for call in dict.fromkeys([*self._calls.values(), *self._held])))
        self._send(*(partial(_settle, update.done, error) for update in self._updates))

    def _stop(self) -> None:
        self._stopping = True

    def _send(self, *events: Event) -> None:
        """Run `events` in the event loop, in one go: waking it costs more than what it then does."""

        def run() -> None:
            for event in events:
                event()

        assert self._loop is not None
        if events:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(run)


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
