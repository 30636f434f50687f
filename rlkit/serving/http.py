"""What every endpoint shares: key, body, limits, errors as JSON, and noticing that a client has gone."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rlkit.serving.errors import APIError, from_validation
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.responses import ResponseModel
from rlkit.tracking.run_folder import LOGGER

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]

VERSION_HEADER = "x-rlkit-policy-version"
MAX_DISCARDED_BYTES = 64 * 2**20
"""How much of an oversize body is read on: clients that are still sending do not see an answer."""
CLIENT_GONE = 499
"""Status under which such requests are counted; nobody receives it."""


def json_response(content: ResponseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content.as_json(), status, headers, media_type="application/json")


def error_response(error: APIError) -> Response:
    return json_response(error.body, error.status, error.headers)


def check_key(request: Request, key: str) -> None:
    """Raises `APIError` 401 unless the request carries `key`; an empty one lets everybody in."""
    if not key:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Compared in constant time, so that answering times tell nothing about the key. Headers are bytes read as latin-1.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise APIError(
            401,
            "missing or wrong API key; send it as 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def read_body(request: Request, model: type[Body], *, max_bytes: int) -> Body:
    """The parsed body. Raises `APIError`: 415 for another content type, 413 for too many bytes, 400 for anything wrong."""
    try:
        return model.model_validate_json(await read_bytes(request, max_bytes=max_bytes))
    except ValidationError as error:
        raise from_validation(error) from error


async def read_bytes(request: Request, *, max_bytes: int) -> bytes:
    """The body as it came. Raises `APIError`: 415 when it is not said to be JSON, 413 for too many bytes."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise APIError(
            415, "send JSON, with the header 'Content-Type: application/json'", code="unsupported_media_type"
        )
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= max_bytes:
            parts.append(part)
        else:
            parts.clear()
            if size > max_bytes + MAX_DISCARDED_BYTES:
                break
    if size > max_bytes:
        raise APIError(413, f"the body is larger than {max_bytes} bytes", code="body_too_large")
    return b"".join(parts)


def guarded(name: str, handler: Handler, metrics: ServerMetrics, *, key: str = "") -> Handler:
    """`handler` behind `key`, its errors as OpenAI's JSON, its requests counted as `name`."""

    async def run(request: Request) -> Response:
        try:
            check_key(request, key)
            response = await handler(request)
        except APIError as error:
            response = error_response(error)
        except TimeoutError:
            response = error_response(timed_out())
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        except Exception:
            LOGGER.exception("%s failed", name)
            response = error_response(APIError(500, "the server failed; its log says why", code="internal_error"))
        metrics.http_requests[name, response.status_code] += 1
        return response

    return run


def timed_out() -> APIError:
    return APIError(504, "the answer took longer than this server allows (serve.timeout_s)", code="timeout")


async def until_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes; then raises `ClientDisconnect`."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    except BaseException:
        if task.done() and not task.cancelled() and task.exception() is None:
            getattr(task.result(), "discard", lambda: None)()  # a stream that nobody is going to send
        raise
    finally:
        for left in (task, watch):
            left.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def wait_for_disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown path, wrong method."""
    assert isinstance(error, HTTPException)
    what = {404: f"there is no {request.url.path}", 405: f"{request.method} is not possible here"}
    message = what.get(error.status_code, str(error.detail))
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    return error_response(APIError(error.status_code, message, code=code, headers=error.headers))
