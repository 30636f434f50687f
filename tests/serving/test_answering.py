from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rlkit.serving.answering import Answering
from rlkit.serving.engine_loop import EngineLoop
from rlkit.serving.errors import APIError
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.requests import CompletionsRequest
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.types import CompletionRequest


def requests(answering: Answering, prompts: list[tuple[int, ...]], **more: Any) -> list[CompletionRequest]:
    body = CompletionsRequest(model="tiny", prompt="x", **more)
    return answering.requests_for(body, prompts, asked_tokens=body.max_tokens, default_tokens=9, top_log_probs=0)


@pytest.fixture
def run(tokenizer: Any, settings_of: Any) -> Callable[[Callable[[Answering], Awaitable[None]]], None]:
    """Function: run a test with an `Answering` on a slow engine."""

    def start(test: Callable[[Answering], Awaitable[None]]) -> None:
        async def main() -> None:
            metrics = ServerMetrics()
            loop = EngineLoop(FakeServingEngine(tokenizer, delay_s=0.01), on_tokens=metrics.count_tokens)
            loop.start()
            try:
                await asyncio.wait_for(test(Answering(settings_of(max_queue=4), loop, metrics)), 60)
            finally:
                assert loop.stop(timeout_s=60)

        asyncio.run(main())

    return start


def test_requests_without_a_seed_share_one_and_differ_by_row(run: Any) -> None:
    async def test(answering: Answering) -> None:
        made = [*requests(answering, [(5,)], n=2), *requests(answering, [(5,)])]
        assert len({item.sampling for item in made}) == 1
        assert len({item.row_id for item in made}) == len({item.request_id for item in made}) == 3

    run(test)


def test_a_seed_names_the_rows_from_zero(run: Any) -> None:
    async def test(answering: Answering) -> None:
        for _ in range(2):
            made = requests(answering, [(5,), (6,)], n=2, seed=8)
            assert [(item.prompt_ids, item.row_id, item.sampling.seed) for item in made] == [
                ((5,), 0, 8), ((5,), 1, 8), ((6,), 2, 8), ((6,), 3, 8),
            ]  # fmt: skip

    run(test)


def test_each_prompt_has_the_room_that_the_context_leaves(run: Any) -> None:
    async def test(answering: Answering) -> None:
        short, long = requests(answering, [(5,), (5,) * 198])
        assert (short.sampling.max_tokens, long.sampling.max_tokens) == (9, 2)
        with pytest.raises(APIError, match="200 tokens of prompt are beyond"):
            requests(answering, [(5,) * 200])

    run(test)


def test_places_are_taken_and_given_back(run: Any) -> None:
    async def test(answering: Answering) -> None:
        first = await answering.start(requests(answering, [(5,)] * 3))
        assert answering.in_progress == 3
        with pytest.raises(APIError) as refused:
            await answering.start(requests(answering, [(5,)] * 2))
        assert refused.value.status == 429
        assert answering.in_progress == 3
        first.close()
        first.close()
        assert answering.in_progress == 0
        await answering.wait_until_idle()

    run(test)


def test_giving_up_ends_every_answer(run: Any) -> None:
    async def test(answering: Answering) -> None:
        call = await answering.start(requests(answering, [(5,)], max_tokens=100))
        answering.give_up()
        with pytest.raises(APIError) as ended:
            async for _ in call.chunks():
                pass
        assert ended.value.status == 503
        call.close()

    run(test)


def test_an_engine_that_refuses_takes_no_place(run: Any) -> None:
    async def test(answering: Answering) -> None:
        with pytest.raises(APIError) as refused:
            await answering.start(requests(answering, [(5,)], max_tokens=190))  # the engine's context is shorter
        assert refused.value.status == 400
        assert answering.in_progress == 0

    run(test)
