from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rlkit.serving.inner_request import Replay, ask

DISCONNECT = {"type": "http.disconnect"}


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return DISCONNECT


def test_the_body_comes_once_and_then_what_the_client_does() -> None:
    async def run() -> None:
        replay = Replay(b"{}", gone, is_over=lambda: False)
        assert await replay() == {"type": "http.request", "body": b"{}", "more_body": False}
        assert not replay.client_has_left
        assert await replay() == DISCONNECT
        assert replay.client_has_left

    asyncio.run(run())


def test_a_client_that_goes_after_its_answer_has_not_left() -> None:
    async def run() -> None:
        replay = Replay(b"{}", gone, is_over=lambda: True)
        await replay()
        assert await replay() == DISCONNECT
        assert not replay.client_has_left

    asyncio.run(run())


def test_leaving_looks_as_if_the_client_had_gone() -> None:
    async def run() -> None:
        replay = Replay(b"{}", never, is_over=lambda: False)
        await replay()
        waiting = asyncio.ensure_future(replay())
        await asyncio.sleep(0)
        replay.leave()
        assert await asyncio.wait_for(waiting, 60) == DISCONNECT
        assert not replay.client_has_left

    asyncio.run(run())


def test_asking_inside_sends_no_header_of_the_client() -> None:
    async def show(request: Request) -> JSONResponse:
        return JSONResponse([request.method, request.url.path, request.url.query, dict(request.headers)], 203)

    scope: Any = {
        "type": "http", "method": "POST", "path": "/metrics", "query_string": b"a=1", "scheme": "http",
        "headers": [(b"accept", b"application/openmetrics-text")], "server": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    answer = asyncio.run(ask(Starlette(routes=[Route("/inner", show)]), scope, "/inner"))
    assert (answer.status_code, answer.body) == (203, b'["GET","/inner","",{}]')
    assert answer.headers["content-type"] == "application/json"
