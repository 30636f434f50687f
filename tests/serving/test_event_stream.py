from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rlkit.serving.errors import APIError
from rlkit.serving.event_stream import EventStream
from rlkit.serving.responses import Health, ResponseModel

EVENT = Health(status="ok", policy_version=1)


async def two() -> AsyncIterator[ResponseModel]:
    yield EVENT
    yield EVENT


async def fails(error: Exception) -> AsyncIterator[ResponseModel]:
    yield EVENT
    raise error


async def stalls() -> AsyncIterator[ResponseModel]:
    yield EVENT
    await asyncio.sleep(600)


def send_all(events: AsyncIterator[ResponseModel], *, timeout_s: float | None = None, broken: bool = False) -> Any:
    """What was sent as text, and how often the stream was closed."""
    sent: list[dict[str, Any]] = []
    closed: list[bool] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if broken and sent:
            raise OSError("the connection is gone")
        sent.append(message)

    async def main() -> None:
        stream = EventStream(events, close=lambda: closed.append(True), timeout_s=timeout_s, headers={"x-a": "b"})
        await asyncio.wait_for(stream({"type": "http"}, receive, send), 60)

    asyncio.run(main())
    assert (b"x-a", b"b") in sent[0]["headers"]
    assert not any(name == b"content-length" for name, _ in sent[0]["headers"])
    return b"".join(message.get("body", b"") for message in sent).decode(), len(closed)


def test_events_and_the_closing_mark() -> None:
    text, closed = send_all(two())
    data = EVENT.as_json()
    assert text == f"data: {data}\n\ndata: {data}\n\ndata: [DONE]\n\n"
    assert closed == 1


@pytest.mark.parametrize(
    ("error", "told"), [(APIError(503, "stopping"), "stopping"), (RuntimeError("private"), "the server failed")]
)
def test_a_fault_is_an_event_and_there_is_no_closing_mark(error: Exception, told: str) -> None:
    text, closed = send_all(fails(error))
    assert told in text.split("\n\n")[1]
    assert "[DONE]" not in text and "private" not in text
    assert closed == 1


def test_time_that_is_up_is_told() -> None:
    text, closed = send_all(stalls(), timeout_s=0.1)
    assert '"code":"timeout"' in text
    assert closed == 1


def test_a_broken_connection_closes_quietly() -> None:
    assert send_all(two(), broken=True) == ("", 1)
