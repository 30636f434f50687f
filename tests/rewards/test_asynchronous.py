"""Async functions judge many answers at a time, and one that hangs keeps nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from rlkit.errors import RewardError, TransientRewardError
from rlkit.rewards import asynchronous
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.jobs import Patience
from rlkit.rewards.judging import ErrorPolicy
from rlkit.rewards.resolve import ResolvedFunction
from rlkit.rewards.scorer import Runtime, Scorer
from rlkit.types import Prompt, Sample

SAMPLES = [Sample(Prompt(number, text="q"), str(number)) for number in range(40)]


def make_scorer(
    function: Any,
    *,
    timeout_s: float = 10.0,
    retries: int = 0,
    concurrency: int = 8,
    on_error: Literal["stop", "leave_out"] = "stop",
) -> Scorer:
    resolved = ResolvedFunction("f", "f", function, adapt_function(function, name="f"))
    patience, runtime = Patience(timeout_s, retries, 0.001), Runtime(concurrency=concurrency)
    return Scorer((resolved,), (1.0,), patience, ErrorPolicy(on_error), runtime)


def test_as_many_answers_as_allowed_are_judged_at_a_time_and_in_order() -> None:
    running, most = 0, 0

    async def score(response: str) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return float(response)

    with make_scorer(score) as scorer:
        assert [reward.score for reward in scorer.score(SAMPLES)] == list(range(40))
        assert most == 8
        scorer.score(SAMPLES)


def test_an_object_is_awaited_with_one_answer_each_or_with_the_whole_batch() -> None:
    class Remote:
        def __init__(self, *, judges_apart: bool) -> None:
            self.judges_apart = judges_apart
            self.calls: list[int] = []
            self.is_closed = False

        async def __call__(self, samples: Sequence[Sample]) -> list[float]:
            self.calls.append(len(samples))
            return [1.0 for _ in samples]

        async def aclose(self) -> None:
            self.is_closed = True

    for judges_apart, calls in ((True, [1] * 40), (False, [40])):
        remote = Remote(judges_apart=judges_apart)
        with make_scorer(remote) as scorer:
            scorer.score(SAMPLES)
        assert remote.calls == calls
        assert remote.is_closed


def test_the_caller_can_do_something_else_meanwhile() -> None:
    begun = []

    async def score(response: str) -> float:
        begun.append(response)
        return 1.0

    with make_scorer(score) as scorer:
        judging = scorer.begin(SAMPLES)
        deadline = time.monotonic() + 30
        while len(begun) < len(SAMPLES) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(begun) == len(SAMPLES)
        assert len(judging.result()) == len(SAMPLES)


def test_passing_failures_are_tried_again_others_are_not() -> None:
    attempts: dict[str, int] = {}

    async def score(response: str) -> float:
        attempts[response] = attempts.get(response, 0) + 1
        if response == "3":
            raise ValueError("three")
        if attempts[response] < 3:
            raise TransientRewardError("busy", retry_after_s=0.002)
        return 1.0

    with make_scorer(score, retries=2, on_error="leave_out") as scorer:
        judging = scorer.begin(SAMPLES)
        rewards = judging.result()
    assert [row for row, reward in enumerate(rewards) if reward.error] == [3]
    assert attempts["3"] == 1
    assert judging.report().retries == 2 * 39


def test_an_answer_that_hangs_has_failed_even_when_it_swallows_its_cancellation() -> None:
    async def score(response: str) -> float:
        while response == "5":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
        return 1.0

    with make_scorer(score, timeout_s=0.3, on_error="leave_out") as scorer:
        judging = scorer.begin(SAMPLES)
        assert [row for row, reward in enumerate(judging.result()) if reward.error] == [5]
        assert judging.report().errors == {"timeout": 1}


def test_when_everything_hangs_only_the_first_ones_are_waited_for() -> None:
    begun = []

    async def score(response: str) -> float:
        begun.append(response)
        await asyncio.sleep(600)
        return 1.0

    with make_scorer(score, timeout_s=0.3, on_error="leave_out") as scorer:
        rewards = scorer.score(SAMPLES)
    assert all(reward.error for reward in rewards)
    assert "given up: 8 answers in a row" in str(rewards[-1].error)
    assert len(begun) < 20


def test_a_function_that_blocks_the_loop_is_given_up_and_the_next_batch_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "STUCK_FOR_S", 0.1)
    given_up = threading.Event()

    async def score(response: str) -> float:
        given_up.wait(60)
        return 1.0

    with make_scorer(score, timeout_s=0.2, on_error="leave_out") as scorer:
        rewards = scorer.score(SAMPLES[:2])
        assert "event loop was held up" in str(rewards[0].error)
        given_up.set()
        monkeypatch.setattr(asynchronous, "STUCK_FOR_S", 60.0)  # a busy machine may hold it up as well
        assert [reward.score for reward in scorer.score(SAMPLES[:2])] == [1.0, 1.0]


def test_the_first_failure_stops_the_batch_where_it_should() -> None:
    async def score(response: str) -> float:
        if response == "7":
            raise KeyError("seven")
        await asyncio.sleep(600)
        return 1.0

    with make_scorer(score, timeout_s=600, concurrency=40) as scorer, pytest.raises(RewardError, match=r"row 7.*seven"):
        scorer.score(SAMPLES)
