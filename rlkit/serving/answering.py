"""From prompts to calls: limits, sampling settings, and what is counted when an answer ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from uuid import uuid4

from rlkit.errors import ModelError
from rlkit.serving.call import Call
from rlkit.serving.engine_loop import EngineFaultError, EngineLoop, EngineUnusableError
from rlkit.serving.errors import APIError, refused
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.requests import SamplingRequest
from rlkit.serving.room import check_room, stopping
from rlkit.types import CompletionChunk, CompletionRequest, SamplingParams
from rlkit.types.server_settings import ServerSettings

_ENGINE_ERRORS = (ModelError, EngineFaultError, EngineUnusableError)


class Answering:
    """Admits requests and hands them to the engine. Belongs to the event loop."""

    def __init__(self, settings: ServerSettings, engine: EngineLoop, metrics: ServerMetrics) -> None:
        self.draining = False
        self.in_progress = 0
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._rows = itertools.count()
        self._calls: set[Call] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def requests_for(
        self,
        body: SamplingRequest,
        prompts: Sequence[tuple[int, ...]],
        *,
        asked_tokens: int | None,
        default_tokens: int,
        top_log_probs: int,
    ) -> list[CompletionRequest]:
        """`body.samples` requests a prompt, those of one prompt next to each other. Raises `APIError` beyond the context."""
        requests: list[CompletionRequest] = []
        call_id = uuid4().hex
        for prompt in prompts:
            sampling = self._sampling(body, self._max_tokens(len(prompt), asked_tokens, default_tokens))
            for _ in range(body.samples):
                number = len(requests)
                # One seed for all who name none lets an engine answer them in one batch; the row keeps them apart.
                row_id = number if body.seed is not None else next(self._rows)
                requests.append(CompletionRequest(f"{call_id}-{number}", prompt, sampling, top_log_probs, row_id))
        return requests

    async def start(self, requests: Sequence[CompletionRequest]) -> ActiveCall:
        """Waits until the engine has taken them. Raises `APIError` when there is no room or the engine refuses."""
        if self.draining:
            raise stopping()
        check_room(len(requests), in_progress=self.in_progress, most=self._settings.max_queue)
        call = Call(requests)
        self._enter(call)
        active = ActiveCall(call, self._engine, self._metrics, self._leave)
        try:
            self._engine.submit(call)
            active.policy_version = await call.accepted()
        except _ENGINE_ERRORS as error:
            active.close()
            raise as_api_error(error) from error
        except BaseException:
            active.close()
            raise
        self._metrics.prompt_tokens += sum(len(request.prompt_ids) for request in requests)
        return active

    async def wait_until_idle(self) -> None:
        """Until no answer is in progress."""
        await self._idle.wait()

    def give_up(self) -> None:
        """End every answer in progress; its client is told that the server stops."""
        for call in list(self._calls):
            call.fail(EngineUnusableError("the server is stopping"))

    def _enter(self, call: Call) -> None:
        self._calls.add(call)
        self.in_progress += len(call.requests)
        self._idle.clear()

    def _leave(self, call: Call) -> None:
        self._calls.discard(call)
        self.in_progress -= len(call.requests)
        if not self.in_progress:
            self._idle.set()

    def _max_tokens(self, prompt_tokens: int, asked: int | None, default: int) -> int:
        room = self._settings.max_context - prompt_tokens
        if room < 1 or (asked is not None and asked > room):
            wanted = f" and {asked} of answer" if asked is not None else ""
            raise refused(
                f"{prompt_tokens} tokens of prompt{wanted} are beyond the model's context of {self._settings.max_context}",
                param="max_tokens" if room > 0 else None,
                code="context_length_exceeded",
            )
        return asked if asked is not None else min(default, room)

    def _sampling(self, body: SamplingRequest, max_tokens: int) -> SamplingParams:
        temperature = 1.0 if body.temperature is None else body.temperature
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(body.top_k or 0, 0),
            min_p=body.min_p or 0.0,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            # Engines count seeds from 0; a negative one stands for the number with the same bits.
            seed=self._settings.seed if body.seed is None or temperature == 0 else body.seed % 2**64,
            stop=body.stop_strings,
            stop_token_ids=tuple(body.stop_token_ids or ()),
        )


_Leave = Callable[[Call], None]


class ActiveCall:
    """A call that the engine works on; closed in any case, which stops what is still running."""

    def __init__(self, call: Call, engine: EngineLoop, metrics: ServerMetrics, leave: _Leave) -> None:
        self.policy_version = 0
        self._call = call
        self._engine = engine
        self._metrics = metrics
        self._leave = leave
        self._closed = False

    async def chunks(self) -> AsyncIterator[tuple[int, CompletionChunk]]:
        """As `Call.chunks`, with `APIError` for what goes wrong."""
        try:
            async for index, chunk in self._call.chunks():
                if chunk.finish_reason == "abort":
                    raise EngineFaultError("the engine gave an answer up")
                if chunk.finish_reason is not None:
                    self._metrics.answers[chunk.finish_reason] += 1
                yield index, chunk
        except _ENGINE_ERRORS as error:
            raise as_api_error(error) from error

    def leave_out(self, index: int) -> None:
        """The answer has ended with a stop string that the engine did not see: it need not go on."""
        request_id = self._call.requests[index].request_id
        if request_id in self._call.running_ids:
            self._call.leave_out(request_id)
            self._engine.abort(self._call, [request_id])
            self._metrics.answers["stop"] += 1

    def close(self) -> None:
        """May be called twice."""
        if self._closed:
            return
        self._closed = True
        call = self._call
        if call.running_ids:
            self._metrics.answers["unfinished"] += len(call.running_ids)
            self._engine.abort(call, call.running_ids)
        self._leave(call)
        self._metrics.request_seconds.add(time.monotonic() - call.started)
        if call.first_token_s is not None:
            self._metrics.first_token_seconds.add(call.first_token_s)


def as_api_error(error: ModelError | EngineFaultError | EngineUnusableError) -> APIError:
    """What a client is told of an engine's error."""
    if isinstance(error, ModelError):
        return refused(str(error))
    if isinstance(error, EngineFaultError):
        return APIError(500, "the engine failed while it was answering; the server's log says why", code="engine_fault")
    return APIError(503, str(error), code="engine_unusable")
