from __future__ import annotations

from collections.abc import Sequence

import pytest

from rlkit.errors import RewardError
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.manner import Manner
from rlkit.types import Sample


def batch(samples: Sequence[Sample]) -> list[float]:
    return [0.0 for _ in samples]


def score(response: str) -> float:
    return 0.0


def compute_score(data_source: str, solution_str: str, ground_truth: str) -> float:
    return 0.0


def trl(completions: list[str]) -> list[float]:
    return [0.0 for _ in completions]


async def remote(response: str) -> float:
    return 0.0


class AsyncBatch:
    judges_apart = True

    async def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [0.0 for _ in samples]


class Model:
    judges_apart = True
    runs_in = "trainer"
    remembers = False

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [0.0 for _ in samples]


@pytest.mark.parametrize(
    ("function", "manner"),
    [
        (batch, Manner(judges_apart=False)),
        (trl, Manner(judges_apart=False)),
        (score, Manner(judges_apart=True)),
        (compute_score, Manner(judges_apart=True)),
        (remote, Manner(judges_apart=True, runs_in="async")),
        (AsyncBatch(), Manner(judges_apart=True, runs_in="async")),
        (Model(), Manner(judges_apart=True, runs_in="trainer", remembers=False)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_signature_suggests_and_attributes_decide(function: object, manner: Manner) -> None:
    assert adapt_function(function, name="f").manner == manner


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"runs_in": "thread"}, "runs_in = 'thread'; it must be one of process, async, trainer"),
        ({"runs_in": "async"}, "runs_in = 'async' and is not async; define it with async def"),
        ({"judges_apart": 1}, "judges_apart = 1; it must be True or False"),
        ({"remembers": "no"}, "remembers = 'no'"),
    ],
)
def test_attributes_that_mean_nothing_are_refused(attributes: dict[str, object], message: str) -> None:
    def function(response: str) -> float:
        return 0.0

    vars(function).update(attributes)
    with pytest.raises(RewardError, match=message):
        adapt_function(function, name="f")


def test_an_async_function_cannot_run_in_a_worker() -> None:
    async def function(response: str) -> float:
        return 0.0

    vars(function)["runs_in"] = "process"
    with pytest.raises(RewardError, match="leave runs_in out"):
        adapt_function(function, name="f")
