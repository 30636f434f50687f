from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rlkit.serving.call import Call
from rlkit.types import CompletionChunk, CompletionRequest, FinishReason, SamplingParams


def chunk(name: str, token: int, reason: FinishReason | None = None) -> CompletionChunk:
    return CompletionChunk(name, (token,), (-1.0,), (), reason, 0)


def run(test: Callable[[Call], Awaitable[None]]) -> None:
    async def main() -> None:
        sampling = SamplingParams(max_tokens=4)
        await asyncio.wait_for(test(Call([CompletionRequest(name, (1,), sampling) for name in ("a", "b")])), 60)

    asyncio.run(main())


def test_chunks_come_in_order_with_the_number_of_their_request() -> None:
    async def test(call: Call) -> None:
        for item in (chunk("b", 1), chunk("a", 2, "stop"), chunk("b", 3, "length")):
            call.add(item)
        assert [(index, item.token_ids) async for index, item in call.chunks()] == [(1, (1,)), (0, (2,)), (1, (3,))]
        assert call.running_ids == ()

    run(test)


def test_what_is_left_out_is_not_waited_for() -> None:
    async def test(call: Call) -> None:
        call.add(chunk("a", 1))
        call.add(chunk("b", 2, "stop"))
        call.leave_out("a")
        assert [index async for index, _ in call.chunks()] == [1]

    run(test)


def test_a_failure_before_acceptance_and_one_behind_it() -> None:
    async def before(call: Call) -> None:
        call.fail(RuntimeError("early"))
        with pytest.raises(RuntimeError, match="early"):
            await call.accepted()

    async def behind(call: Call) -> None:
        call.accept(5)
        assert await call.accepted() == 5
        call.add(chunk("a", 1))
        call.fail(RuntimeError("late"))
        seen = []
        with pytest.raises(RuntimeError, match="late"):
            async for index, _ in call.chunks():
                seen.append(index)
        assert seen == [0]

    run(before)
    run(behind)
