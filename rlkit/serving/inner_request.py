"""Requests as an application gets them that stands behind another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope

Application = Callable[..., Awaitable[None]]


class Replay:
    """An ASGI `receive` that gives `body`, which has been read, and then whatever `receive` still brings.

    is_over: whether the answer has been sent, after which every client goes. `leave` makes it look as if the client had gone, which is how an application is told to stop its work.
    """

    def __init__(self, body: bytes, receive: Receive, *, is_over: Callable[[], bool]) -> None:
        self.client_has_left = False
        self._is_over = is_over
        self._body: bytes | None = body
        self._receive = receive
        self._left = asyncio.Event()

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        coming, left = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait((coming, left), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return {"type": "http.disconnect"}
            message: Message = coming.result()
            if message["type"] == "http.disconnect" and not self._is_over():
                self.client_has_left = True
            return message
        finally:
            coming.cancel()
            left.cancel()

    def leave(self) -> None:
        self._left.set()


async def ask(app: Application, scope: Scope, path: str) -> Response:
    """What `app` answers to `GET path` from the client of `scope`, without the headers that he has sent."""
    answer = Response()
    body: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status_code, answer.raw_headers = message["status"], list(message["headers"])
        else:
            body.append(message.get("body", b""))

    inner = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    await app(inner, receive, send)
    answer.body = b"".join(body)
    return answer
