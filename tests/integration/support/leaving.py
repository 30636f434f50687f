"""A client that goes away while its answer is being made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx


def ask_and_leave(url: str, body: Any, *, is_asked: Callable[[], bool], headers: dict[str, str] | None = None) -> None:
    """Break the connection once `is_asked`: a time limit of the client might be over before the server has the request."""

    async def client() -> None:
        async with httpx.AsyncClient(timeout=None) as connection:
            answer = asyncio.create_task(connection.post(url, json=body, headers=headers))
            while not await asyncio.to_thread(is_asked):
                assert not answer.done(), "there was an answer before anybody could leave"
                await asyncio.sleep(0.01)
            assert answer.cancel(), "there was an answer before anybody could leave"
            with suppress(asyncio.CancelledError):
                await answer

    asyncio.run(client())
