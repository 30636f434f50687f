from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.serving.call import Call
from rlkit.serving.engine_loop import EngineFaultError, EngineLoop, EngineUnusableError
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.types import CompletionChunk, CompletionRequest, SamplingParams


def request(name: str, tokens: int = 4, prompt: tuple[int, ...] = (5, 6)) -> CompletionRequest:
    return CompletionRequest(name, prompt, SamplingParams(max_tokens=tokens, temperature=0.0))


def run(engine: Any, test: Callable[[EngineLoop], Awaitable[None]], **more: Any) -> None:
    """Run `test` with a loop around `engine`, and stop the loop."""

    async def main() -> None:
        loop = EngineLoop(engine, **more)
        loop.start()
        try:
            await asyncio.wait_for(test(loop), 60)
        finally:
            assert loop.stop(timeout_s=60)

    asyncio.run(main())
    assert engine.calls[-1] == "close"


async def tokens_of(call: Call) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    async for index, chunk in call.chunks():
        found.setdefault(index, []).extend(chunk.token_ids)
    return found


def test_chunks_reach_the_call_that_asked(tokenizer: Any) -> None:
    counted: list[int] = []

    async def test(loop: EngineLoop) -> None:
        first, second = Call([request("a"), request("b", 2)]), Call([request("c", prompt=(9,))])
        loop.submit(first)
        loop.submit(second)
        assert await first.accepted() == 0
        assert await tokens_of(first) == {0: [5, 6, 5, 6], 1: [5, 6]}
        assert await tokens_of(second) == {0: [9, 9, 9, 9]}
        assert first.first_token_s is not None

    run(FakeServingEngine(tokenizer), test, on_tokens=counted.append)
    assert sum(counted) == 10


def test_a_refused_request_takes_its_call_and_nothing_else(tokenizer: Any) -> None:
    engine = FakeServingEngine(tokenizer)

    async def test(loop: EngineLoop) -> None:
        wrong, right = Call([request("a"), request("b", 1000)]), Call([request("c")])
        loop.submit(wrong)
        loop.submit(right)
        with pytest.raises(ModelError, match="do not fit"):
            await wrong.accepted()
        assert len((await tokens_of(right))[0]) == 4

    run(engine, test)


def test_an_abort_stops_the_work(tokenizer: Any) -> None:
    engine = FakeServingEngine(tokenizer, delay_s=0.01, context_length=10_000)

    async def test(loop: EngineLoop) -> None:
        call = Call([request("a", 5000)])
        loop.submit(call)
        await call.accepted()
        loop.abort(call, ["a"])
        while engine.has_work:
            await asyncio.sleep(0.01)

    run(engine, test)
    assert "abort" in engine.calls


class Fails(FakeServingEngine):
    """The first step fails."""

    failed = False

    def step(self) -> Sequence[CompletionChunk]:
        if not self.failed:
            self.failed = True
            raise RuntimeError("out of something")
        return super().step()


def test_a_failing_step_loses_what_is_live_and_no_more(tokenizer: Any) -> None:
    async def test(loop: EngineLoop) -> None:
        call, later = Call([request("a")]), Call([request("b")])
        loop.submit(call)
        with pytest.raises(EngineFaultError, match="out of something"):
            await tokens_of(call)
        loop.submit(later)
        assert len((await tokens_of(later))[0]) == 4

    run(Fails(tokenizer), test)


class Held(FakeServingEngine):
    """Does nothing until `go_on`."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.go_on = threading.Event()

    def step(self) -> Sequence[CompletionChunk]:
        assert self.go_on.wait(60)
        return super().step()


def test_weights_wait_for_answers_in_progress_and_new_requests_for_the_weights(tokenizer: Any) -> None:
    engine = Held(tokenizer)

    async def versions(call: Call) -> set[int]:
        return {chunk.policy_version async for _, chunk in call.chunks()}

    async def test(loop: EngineLoop) -> None:
        before, after = Call([request("a", 10)]), Call([request("b")])
        loop.submit(before)
        assert await before.accepted() == 0
        update = asyncio.ensure_future(loop.update_weights(lambda: [], 7))
        await asyncio.sleep(0)  # it has been asked for
        loop.submit(after)
        engine.go_on.set()
        assert await versions(before) == {0}
        assert await after.accepted() == 7
        assert await versions(after) == {7}
        await update
        assert loop.policy_version == 7

    run(engine, test)


def test_a_request_that_waits_for_weights_can_be_aborted(tokenizer: Any) -> None:
    engine = Held(tokenizer)

    async def test(loop: EngineLoop) -> None:
        before, waiting = Call([request("a", 10)]), Call([request("b")])
        loop.submit(before)
        update = asyncio.ensure_future(loop.update_weights(lambda: [], 1))
        await asyncio.sleep(0)  # it has been asked for
        loop.submit(waiting)
        loop.abort(waiting, ["b"])
        engine.go_on.set()
        await update

    run(engine, test)
    assert engine.calls.count("submit") == 1


class BreaksOnce(FakeServingEngine):
    """The first update leaves a mixture."""

    def update_weights(self, named_tensors: Any, version: int) -> None:
        self.calls.append("update_weights")
        if self.calls.count("update_weights") == 1:
            raise ModelError("half way")
        self.version = version


def test_after_a_failed_update_nothing_is_answered_until_one_succeeds(tokenizer: Any) -> None:
    async def test(loop: EngineLoop) -> None:
        with pytest.raises(ModelError, match="half way"):
            await loop.update_weights(lambda: [], 1)
        with pytest.raises(EngineUnusableError, match="weight update failed"):
            loop.submit(Call([request("a")]))
        await loop.update_weights(lambda: [], 2)
        call = Call([request("a")])
        loop.submit(call)
        assert await call.accepted() == 2

    run(BreaksOnce(tokenizer), test)


class BreaksSlowly(BreaksOnce):
    """A mixture refuses requests, as the engines do, and its loading takes until `go_on`."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.loading, self.go_on = threading.Event(), threading.Event()

    def submit(self, request: CompletionRequest) -> None:
        if self.loading.is_set():
            raise ModelError("no whole set of weights")
        super().submit(request)

    def update_weights(self, named_tensors: Any, version: int) -> None:
        self.loading.set()
        assert self.go_on.wait(60)
        super().update_weights(named_tensors, version)


def test_a_request_that_comes_while_an_update_fails_may_be_sent_again(tokenizer: Any) -> None:
    engine = BreaksSlowly(tokenizer)

    async def test(loop: EngineLoop) -> None:
        update = asyncio.ensure_future(loop.update_weights(lambda: [], 1))
        while not engine.loading.is_set():
            await asyncio.sleep(0.01)
        call = Call([request("a")])
        loop.submit(call)
        engine.go_on.set()
        with pytest.raises(ModelError, match="half way"):
            await update
        with pytest.raises(EngineUnusableError, match="weight update failed"):
            await call.accepted()

    run(engine, test)


def test_a_stopped_loop_leaves_nobody_waiting(tokenizer: Any) -> None:
    engine = FakeServingEngine(tokenizer, delay_s=0.01, context_length=10_000)

    async def main() -> None:
        loop = EngineLoop(engine)
        loop.start()
        call = Call([request("a", 5000)])
        loop.submit(call)
        await call.accepted()
        assert loop.stop(timeout_s=60)
        with pytest.raises(EngineUnusableError):
            await asyncio.wait_for(tokens_of(call), 60)
        with pytest.raises(EngineUnusableError, match="stopping"):
            loop.submit(Call([request("b")]))

    asyncio.run(main())


class AbortsBadly(FakeServingEngine):
    def abort(self, request_ids: Any) -> None:
        raise RuntimeError("no such row")


def test_an_engine_that_breaks_the_thread_is_reported_to_everybody(tokenizer: Any) -> None:
    engine = AbortsBadly(tokenizer, delay_s=0.01)

    async def main() -> None:
        loop = EngineLoop(engine)
        loop.start()
        call = Call([request("a", 50), request("b", 50)])
        loop.submit(call)
        loop.abort(call, ["a"])
        with pytest.raises(EngineUnusableError, match="the engine is gone"):
            await asyncio.wait_for(tokens_of(call), 60)
        assert "the engine is gone" in loop.failure

    asyncio.run(main())
