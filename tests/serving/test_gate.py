from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rlkit.serving.errors import APIError
from rlkit.serving.gate import Gate


class Served:
    """An engine's server of which only the weights are looked at."""

    def __init__(self) -> None:
        self.failure = ""
        self.updates: list[tuple[Any, int]] = []
        self.error: Exception | None = None

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def update_weights(self, named_tensors: Any, version: int) -> None:
        self.updates.append((list(named_tensors), version))
        await asyncio.sleep(0)
        if self.error:
            raise self.error


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def with_gate(test: Callable[[Gate, Served], Awaitable[None]], *, max_queue: int = 4) -> None:
    async def run() -> None:
        served = Served()
        await test(Gate(served, max_queue=max_queue), served)

    asyncio.run(run())


async def hold(gate: Gate, log: list[int], let_go: asyncio.Event, answers: int = 1) -> None:
    async with gate.enter(answers) as version:
        log.append(version)
        await let_go.wait()


def test_an_update_waits_for_what_runs_and_what_comes_waits_for_it() -> None:
    async def test(gate: Gate, served: Served) -> None:
        log: list[int] = []
        first, second = asyncio.Event(), asyncio.Event()
        running = asyncio.ensure_future(hold(gate, log, first))
        await settle()
        update = asyncio.ensure_future(gate.update_weights(lambda: [("w", 1)], 5))  # type: ignore[list-item]
        await settle()
        waiting = asyncio.ensure_future(hold(gate, log, second))
        await settle()
        assert (log, served.updates, gate.in_progress) == ([0], [], 2)
        first.set()
        await asyncio.gather(running, update)
        await settle()
        assert (log, served.updates, gate.policy_version) == ([0, 5], [([("w", 1)], 5)], 5)
        second.set()
        await waiting
        assert gate.in_progress == 0

    with_gate(test)


def test_a_failed_update_stops_answers_until_one_succeeds() -> None:
    async def test(gate: Gate, served: Served) -> None:
        served.error = ValueError("half of it")
        with pytest.raises(ValueError, match="half of it"):
            await gate.update_weights(lambda: [], 1)
        assert gate.failure and gate.policy_version == 0
        with pytest.raises(APIError) as refused:
            async with gate.enter(1):
                pass
        assert refused.value.status == 503
        served.error = None
        await gate.update_weights(lambda: [], 2)
        async with gate.enter(1) as version:
            assert version == 2

    with_gate(test)


def test_an_update_that_is_cancelled_while_it_waits_changes_nothing() -> None:
    async def test(gate: Gate, served: Served) -> None:
        let_go = asyncio.Event()
        running = asyncio.ensure_future(hold(gate, [], let_go))
        await settle()
        update = asyncio.ensure_future(gate.update_weights(lambda: [], 1))
        await settle()
        update.cancel()
        await settle()
        async with gate.enter(1) as version:
            assert version == 0
        let_go.set()
        await running
        assert not served.updates

    with_gate(test)


def test_the_queue_is_counted_in_answers() -> None:
    async def test(gate: Gate, served: Served) -> None:
        async with gate.enter(3):
            for answers, status in ((2, 429), (5, 400)):
                with pytest.raises(APIError) as refused:
                    async with gate.enter(answers):
                        pass
                assert refused.value.status == status
            async with gate.enter(1):
                assert gate.in_progress == 4
        assert gate.in_progress == 0

    with_gate(test)


def test_draining_takes_nothing_new_and_waits_for_the_rest() -> None:
    async def test(gate: Gate, served: Served) -> None:
        let_go = asyncio.Event()
        running = asyncio.ensure_future(hold(gate, [], let_go))
        await settle()
        gate.draining = True
        with pytest.raises(APIError) as refused:
            async with gate.enter(1):
                pass
        assert refused.value.status == 503
        idle = asyncio.ensure_future(gate.wait_until_idle())
        await settle()
        assert not idle.done()
        let_go.set()
        await asyncio.gather(running, idle)

    with_gate(test)


def test_giving_up_reaches_those_who_wait_for_weights() -> None:
    async def test(gate: Gate, served: Served) -> None:
        let_go, log = asyncio.Event(), list[int]()
        running = asyncio.ensure_future(hold(gate, log, let_go))
        await settle()
        update = asyncio.ensure_future(gate.update_weights(lambda: [], 1))
        await settle()
        waiting = asyncio.ensure_future(hold(gate, log, let_go))
        await settle()
        gate.give_up()
        with pytest.raises(APIError, match="stopping"):
            await waiting
        let_go.set()
        await asyncio.gather(running, update)

    with_gate(test)


def test_a_dead_engine_answers_nothing() -> None:
    async def test(gate: Gate, served: Served) -> None:
        served.failure = "it is gone"
        with pytest.raises(APIError, match="it is gone"):
            async with gate.enter(1):
                pass

    with_gate(test)
