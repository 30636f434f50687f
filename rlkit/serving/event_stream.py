"""Server-sent events that stop being made when nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rlkit.serving.errors import APIError
from rlkit.serving.http import timed_out, wait_for_disconnect
from rlkit.serving.responses import ResponseModel
from rlkit.tracking.run_folder import LOGGER

DONE = "[DONE]"


class EventStream(Response):
    """Sends each of `events` as it comes and `[DONE]` at the end, or an error event and no `[DONE]`.

    The client's leaving is noticed between events too. `close` is called however the stream ends.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[ResponseModel],
        *,
        close: Callable[[], None],
        timeout_s: float | None,
        headers: dict[str, str],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._timeout_s = timeout_s

    def discard(self) -> None:
        """Instead of sending it."""
        self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = asyncio.ensure_future(self._write(send))
        watch = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            await asyncio.wait((writer, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, watch):
                task.cancel()
            await asyncio.gather(writer, watch, return_exceptions=True)
            self._close()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with asyncio.timeout(self._timeout_s):
                async for event in self._events:
                    await _send(send, event.as_json())
            await _send(send, DONE)
        except TimeoutError:
            await _send(send, timed_out().body.as_json())
        except APIError as error:
            await _send(send, error.body.as_json())
        except (ClientDisconnect, OSError):
            return
        except Exception:
            LOGGER.exception("a stream failed")
            await _send(
                send, APIError(500, "the server failed; its log says why", code="internal_error").body.as_json()
            )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, data: str) -> None:
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
