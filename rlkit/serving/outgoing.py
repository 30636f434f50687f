"""What an engine's own server sends, with the version of the weights in it and errors as OpenAI writes them."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

from rlkit.serving.errors import APIError
from rlkit.serving.http import VERSION_HEADER

EVENT = b'data: {"'
ERROR, ERROR_EVENT = b'{"error":{', b'data: {"error"'
STREAM, JSON = "text/event-stream", "application/json"


class Outgoing:
    """An ASGI `send`. Names `version` in a header and, of JSON objects and of events, in the field `policy_version`.

    The field is put in as bytes: an answer that is read and written again would cost more and might come out changed.
    JSON and errors are held back until they are whole, so nothing has been sent while `started` is False. `end` is for an
    answer that is given up; what the application still says then is dropped.

    version   None: answers stay as they are
    status    of the answer; 0 before it begins
    is_whole  whether its end has been sent
    """

    def __init__(self, send: Send, version: int | None) -> None:
        self.status = 0
        self.started = False
        self.is_whole = False
        self._send = send
        self._version = version
        self._field = f'"policy_version":{version},'.encode()
        self._streams = False
        self._ended = False
        self._held: Message | None = None
        self._body: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return
        self.is_whole = message["type"] == "http.response.body" and not message.get("more_body")
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._held is not None:
            await self._hold(self._held, message)
        elif self._streams and message["type"] == "http.response.body":
            await self._send({**message, "body": self._with_field(message.get("body", b""))})
        else:
            await self._send(message)

    async def end(self, error: APIError) -> None:
        """Finish what has been started, a stream with `error` as its last event. Raises `error` if nothing has."""
        self._ended = True
        if not self.started:
            raise error
        event = f"data: {error.body.as_json()}\n\n".encode() if self._streams else b""
        await self._send({"type": "http.response.body", "body": event, "more_body": False})

    async def _begin(self, message: Message) -> None:
        self.status = message["status"]
        media_type = Headers(raw=message["headers"]).get("content-type", "").partition(";")[0]
        named = self.status == HTTPStatus.OK and self._version is not None
        if named:
            MutableHeaders(raw=message["headers"])[VERSION_HEADER] = str(self._version)
            self._streams = media_type == STREAM
        if (named and media_type == JSON) or self.status >= HTTPStatus.BAD_REQUEST:
            self._held = message
            return
        self.started = True
        await self._send(message)

    async def _hold(self, start: Message, message: Message) -> None:
        """Until the end."""
        self._body.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body, self._held = b"".join(self._body), None
        headers = MutableHeaders(raw=start["headers"])
        if self.status >= HTTPStatus.BAD_REQUEST:
            if not body.startswith(ERROR):
                body = plain_error(self.status).body.as_json().encode()
                headers["content-type"] = JSON
        elif body.startswith(b'{"'):
            body = b"{" + self._field + body[1:]
        headers["content-length"] = str(len(body))
        self.started = True
        await self._send(start)
        await self._send({**message, "body": body})

    def _with_field(self, part: bytes) -> bytes:
        """`part` holds whole lines: servers send events one by one."""
        return b"\n".join(
            EVENT[:-1] + self._field + line[len(EVENT) - 1 :]
            if line.startswith(EVENT) and not line.startswith(ERROR_EVENT)
            else line
            for line in part.split(b"\n")
        )


def plain_error(status: int) -> APIError:
    """Of a server that says no more than the status."""
    known = {404: ("there is no such address", "unknown_url"), 405: ("not possible here", "method_not_allowed")}
    message, code = known.get(status, (HTTPStatus(status).phrase, None))
    return APIError(status, message, code=code)
