"""What stands in front of an engine's own server: rlkit's keys, limits, health, metrics, weights and policy version.

client -> key -> POST: JSON, its size -> Gate -> the engine's application -> Outgoing -> client
                 /v1/weights, /health, /metrics and /v1/models/NAME: answered here
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rlkit.protocols import ServedApp
from rlkit.serving.errors import APIError, refused
from rlkit.serving.gate import Gate
from rlkit.serving.http import (
    CLIENT_GONE,
    Handler,
    check_key,
    error_response,
    guarded,
    json_response,
    read_bytes,
    timed_out,
)
from rlkit.serving.inner_request import Replay, ask
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.models import PROMETHEUS, unknown_model
from rlkit.serving.outgoing import Outgoing, plain_error
from rlkit.serving.responses import Health
from rlkit.serving.room import stopping
from rlkit.serving.weights import Weights
from rlkit.tracking.run_folder import LOGGER
from rlkit.types.server_settings import ServerSettings

MODELS = "/v1/models"
COUNTED = frozenset({"/v1/chat/completions", "/v1/completions", MODELS})
"""Addresses that metrics name; all others are one, since clients may think up any number of them."""
METHODS = ("GET", "HEAD", "OPTIONS", "POST")
"""Others have bodies too, whose size nothing limits here, and no engine's API needs them."""
OPEN = frozenset({"/openapi.json"})
"""What needs no key, besides /health and /metrics; an engine's server has more addresses than those under /v1."""
STOPPING_S = 5.0
"""How long an application may take to notice that an answer is not wanted any more."""


class Front:
    """The ASGI application that is served; `served.app` gets what has passed."""

    def __init__(self, served: ServedApp, settings: ServerSettings, *, folder: Path) -> None:
        self.gate = Gate(served, max_queue=settings.max_queue)
        self._app = served.app
        self._settings = settings
        self._metrics = ServerMetrics()
        self._own: dict[tuple[str, str], Handler] = {
            ("GET", "/health"): guarded("/health", self._health, self._metrics),
            ("GET", "/metrics"): guarded("/metrics", self._render_metrics, self._metrics),
        }
        if settings.weights_folders:
            update = Weights(settings, folder, self.gate, self._metrics, is_stopping=lambda: self.gate.draining)
            handler = guarded("/v1/weights", update, self._metrics, key=settings.weights_key)
            self._own["POST", "/v1/weights"] = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif handler := self._own.get((scope["method"], scope["path"])):
            response = await handler(Request(scope, receive))
            await response(scope, receive, send)
        else:
            status = await self._guarded(Request(scope, receive), send)
            self._metrics.http_requests[scope["path"] if scope["path"] in COUNTED else "other", status] += 1

    async def _guarded(self, request: Request, send: Send) -> int:
        """The status of what has been answered."""
        try:
            if request.scope["path"] not in OPEN:
                check_key(request, self._settings.api_key)
            if request.method not in METHODS:
                raise APIError(
                    405,
                    f"{request.method} is not possible here",
                    code="method_not_allowed",
                    headers={"Allow": ", ".join(METHODS)},
                )
            if request.method == "POST":
                return await self._answer(request, send)
            return await self._forward(request, send)
        except APIError as raised:
            error = raised
        except TimeoutError:
            error = timed_out()
        except ClientDisconnect:
            return CLIENT_GONE
        await error_response(error)(request.scope, request.receive, send)
        return error.status

    async def _answer(self, request: Request, send: Send) -> int:
        """What may be an answer of the model: under one version of the weights, within the limits."""
        body = await read_bytes(request, max_bytes=self._settings.max_body_bytes)
        limit_s, began = self._settings.timeout_s or None, time.monotonic()
        async with AsyncExitStack() as entered:
            async with asyncio.timeout(limit_s):
                version = await entered.enter_async_context(self.gate.enter(answers_in(body)))
            left_s = None if limit_s is None else limit_s - (time.monotonic() - began)
            answer = Outgoing(send, version)
            replay = Replay(body, request.receive, is_over=lambda: answer.is_whole)
            await self._let_answer(request.scope, replay, answer, left_s)
            return CLIENT_GONE if replay.client_has_left else answer.status

    async def _let_answer(self, scope: Scope, replay: Replay, answer: Outgoing, left_s: float | None) -> None:
        """Raises `APIError` for an application that has failed, or is not done in time, before it said anything."""
        work = asyncio.ensure_future(self._app(scope, replay, answer))
        given_up = asyncio.ensure_future(self.gate.given_up.wait())
        try:
            await asyncio.wait((work, given_up), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await answer.end(stopping() if given_up.done() else timed_out())
            elif (error := work.exception()) is not None:
                LOGGER.error("the engine's server failed", exc_info=error)
                await answer.end(APIError(500, "the server failed; its log says why", code="internal_error"))
        finally:
            replay.leave()  # an application that is cancelled may leave the engine working
            await asyncio.wait((work,), timeout=STOPPING_S)
            for task in (work, given_up):
                task.cancel()
            await asyncio.gather(work, given_up, return_exceptions=True)

    async def _forward(self, request: Request, send: Send) -> int:
        """What computes nothing."""
        if request.method == "GET" and request.scope["path"].startswith(f"{MODELS}/"):
            response = await self._one_model(request)
            await response(request.scope, request.receive, send)
            return response.status_code
        answer = Outgoing(send, None)
        await self._app(request.scope, request.receive, answer)
        return answer.status

    async def _one_model(self, request: Request) -> Response:
        """OpenAI's way to ask for one; engines list all of theirs."""
        name = request.scope["path"].removeprefix(f"{MODELS}/")
        listed = await ask(self._app, request.scope, MODELS)
        if listed.status_code != HTTPStatus.OK:
            raise plain_error(listed.status_code)
        for model in json.loads(bytes(listed.body))["data"]:
            if model["id"] == name:
                return Response(json.dumps(model), media_type="application/json")
        raise unknown_model(name, self._settings.model_name)

    async def _health(self, request: Request) -> Response:
        gate = self.gate
        status = "draining" if gate.draining else "failed" if gate.failure else "ok"
        return json_response(Health(status=status, policy_version=gate.policy_version), 200 if status == "ok" else 503)

    async def _render_metrics(self, request: Request) -> Response:
        """The engine's own, and what is known here."""
        gate = self.gate
        engines = bytes((await ask(self._app, request.scope, "/metrics")).body).decode()
        ours = self._metrics.render_requests(in_progress=gate.in_progress, policy_version=gate.policy_version)
        return Response(engines + ours, media_type=PROMETHEUS)


def answers_in(body: bytes) -> int:
    """How many answers a request asks for, as far as that can be seen. Raises `APIError` when it is not JSON."""
    try:
        asked = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise refused(f"the body is not valid JSON: {error}", code="invalid_json") from error
    return _inputs(asked) * _samples(asked.get("n")) if isinstance(asked, dict) else 1


def _inputs(asked: dict[str, object]) -> int:
    """Prompts or conversations; a list of numbers is one prompt."""
    for key, one in (("prompt", (str, list)), ("messages", (list,))):
        values = asked.get(key)
        if isinstance(values, list) and values and isinstance(values[0], one):
            return len(values)
    return 1


def _samples(n: object) -> int:
    """Servers may read a number from text too; what is none is theirs to refuse."""
    try:
        return max(int(float(n)), 1) if isinstance(n, int | float | str) else 1
    except (ValueError, OverflowError):
        return 1
