"""Clients that leave; what else `http.py` does is in `test_errors.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from rlkit.serving.app import build_app, serving_context
from rlkit.serving.http import until_disconnect
from rlkit.testing.fake_serving import FakeServingEngine


class Client:
    """One HTTP request at the ASGI level, by a client that can leave whenever a test likes."""

    def __init__(self, app: Any, body: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._gone = asyncio.Event()
        self._body = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "raw_path": b"", "query_string": b"",
            "root_path": "", "headers": [(b"content-type", b"application/json")], "asgi": {"spec_version": "2.4"},
        }  # fmt: skip
        self.answered = asyncio.ensure_future(app(scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return self._body.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("stream", [False, True])
def test_the_work_stops_when_the_client_leaves(serve: Any, tokenizer: Any, settings_of: Any, stream: bool) -> None:
    engine = FakeServingEngine(tokenizer, delay_s=0.02, context_length=100_000)

    async def main() -> None:
        context = serving_context(
            settings_of(max_context=100_000, default_max_tokens=50_000),
            engine,
            tokenizer,
            vocabulary=len(tokenizer),
            folder=serve.folder,
        )
        app = build_app(context)
        async with app.router.lifespan_context(app):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": stream, "n": 2}
            client = Client(app, body)
            await until(lambda: engine.has_work and (len(client.sent) > 3 or not stream))
            client.leave()
            await asyncio.wait_for(client.answered, 60)
            await until(lambda: not engine.has_work)
            assert context.answering.in_progress == 0
            assert context.metrics.answers["unfinished"] == 2
            if not stream:
                assert context.metrics.http_requests["/v1/chat/completions", 499] == 1

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Disposable:
    discarded = False

    def discard(self) -> None:
        self.discarded = True


def request_of(receive: Any) -> Request:
    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_work_that_is_done_when_time_is_up_is_not_left_open() -> None:
    made = Disposable()

    async def never() -> Any:
        await asyncio.Event().wait()

    async def work() -> Disposable:
        return made

    async def main() -> None:
        waiting = asyncio.ensure_future(until_disconnect(request_of(never), work()))
        await asyncio.sleep(0)  # starts `work`
        await asyncio.sleep(0)  # which is now done, while nobody has been told
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert made.discarded


def test_leaving_cancels_the_work() -> None:
    cancelled: list[bool] = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        with pytest.raises(ClientDisconnect):
            await until_disconnect(request_of(gone), work())

    asyncio.run(main())
    assert cancelled == [True]
