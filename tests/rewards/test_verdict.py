"""Raw verdicts become finite rewards or failures that say why."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlkit.rewards.verdict import NOT_APPLICABLE, Failure, failure_of, read_verdict
from rlkit.types import Reward


@pytest.mark.parametrize(
    ("raw", "score"),
    [(1, 1.0), (True, 1.0), (0.25, 0.25), (np.float32(0.5), 0.5), (np.bool_(True), 1.0), (torch.tensor(2.0), 2.0)],
)
def test_every_kind_of_number_is_a_score(raw: object, score: float) -> None:
    assert read_verdict(raw) == Reward(score)


def test_a_dict_gives_its_score_and_its_other_numbers_as_parts() -> None:
    assert read_verdict({"score": 1, "acc": True, "pred": "42"}) == Reward(1.0, {"acc": 1.0})


@pytest.mark.parametrize(
    "verdict",
    [
        failure_of(ValueError("no such mood: \ud83d")),
        read_verdict(Reward(0.0, error="no such mood: \ud83d")),
        read_verdict({"no such mood: \ud83d": 1.0}),
    ],
)
def test_half_a_surrogate_pair_has_no_place_in_a_reason(verdict: object) -> None:
    assert isinstance(verdict, Failure)
    assert "no such mood: ?" in verdict.reason
    (verdict.reason + verdict.trace).encode("utf-8")


def test_half_a_surrogate_pair_has_no_place_in_the_name_of_a_part() -> None:
    assert read_verdict({"score": 1.0, "\ud83d": 2.0}) == Reward(1.0, {"?": 2.0})


def test_rewards_and_abstentions_pass_through() -> None:
    assert read_verdict(Reward(0.5, {"a": 1})) == Reward(0.5, {"a": 1.0})
    assert read_verdict(NOT_APPLICABLE) is NOT_APPLICABLE


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (math.nan, "returned nan, which is not finite"),
        (-math.inf, "not finite"),
        (None, "NoneType None, which is not a number"),
        ("1.0", "str '1.0'"),
        ([1.0], "list"),
        (torch.tensor([1.0, 2.0]), "not a number"),
        ({"acc": 1.0}, "without the key 'score' (keys: acc)"),
        ({"score": math.nan}, "as 'score'"),
        ({"score": 1.0, "part": math.inf}, "as 'part'"),
        ({"score": "high"}, "as 'score'"),
        (Reward(math.nan), "not finite"),
        (Reward(1.0, {"a": "b"}), "as 'a'"),  # type: ignore[dict-item]
        (Reward(1.0, error="judge is down"), "judge is down"),
    ],
)
def test_everything_else_is_a_failure_with_a_reason(raw: object, reason: str) -> None:
    verdict = read_verdict(raw)
    assert isinstance(verdict, Failure)
    assert reason in verdict.reason
