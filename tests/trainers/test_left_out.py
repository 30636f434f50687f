"""Answers without a verdict leave the loss, the baselines and the means, and change nothing for the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs
from rlkit.algos.reward_shaping import Moments
from rlkit.config.algorithm import AlgorithmSection
from rlkit.errors import RewardError, TrainingError
from rlkit.pipelines.algorithms import build_estimator
from rlkit.rewards.judging import JudgingReport
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeEngine, FakeJudging, fake_prompts
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.experience import AdvantageSettings, ask_models, build_experience
from rlkit.trainers.judged import BeingJudged, Judged
from rlkit.trainers.left_out import estimate_among, rows_with_verdict
from rlkit.trainers.reward_metrics import judging_metrics, reward_metrics
from rlkit.trainers.reward_shaping import RewardShaping
from rlkit.types import Experience, Reward, Rollouts, SamplingParams

GOOD, BAD, LOST = Reward(1.0, {"f": 1.0}), Reward(0.0, {"f": 0.0}), Reward(0.0, {}, "f: no verdict")


def less_the_group_mean(inputs: AdvantageInputs) -> tuple[Tensor, Tensor | None]:
    scores = inputs.token_rewards.sum(dim=1)
    means = torch.stack([scores[inputs.group_ids == group].mean() for group in inputs.group_ids.unique()])
    advantages = (scores - means[inputs.group_ids])[:, None] * inputs.mask
    return advantages, advantages + 1


def inputs_of(scores: list[float], groups: list[int]) -> AdvantageInputs:
    rewards = torch.tensor([[0.0, score] for score in scores])
    mask = torch.ones(len(scores), 2, dtype=torch.bool)
    return AdvantageInputs(rewards, mask, torch.tensor(groups), torch.zeros(len(scores), 2), None)


def test_the_baseline_of_a_group_is_that_of_its_judged_answers() -> None:
    groups = [0, 0, 0, 1, 1, 1]
    rows = rows_with_verdict([GOOD, BAD, LOST, GOOD, GOOD, BAD], None, torch.tensor(groups))
    assert rows.tolist() == [True, True, False, True, True, True]
    advantages, returns = estimate_among(less_the_group_mean, inputs_of([1, 0, 0, 1, 1, 0], groups), rows)
    assert returns is not None
    assert advantages[:, 1].tolist() == pytest.approx([0.5, -0.5, 0.0, 1 / 3, 1 / 3, -2 / 3])
    assert returns[2].tolist() == [0.0, 0.0]


def test_the_others_are_estimated_as_if_the_left_out_had_never_been_there() -> None:
    rows = torch.tensor([False, True, True, False, True, True])
    among, _ = estimate_among(less_the_group_mean, inputs_of([9, 1, 0, 9, 3, 5], [0, 1, 1, 2, 2, 2]), rows)
    alone, _ = less_the_group_mean(inputs_of([1, 0, 3, 5], [0, 0, 1, 1]))
    assert among[rows].equal(alone)


def test_an_answer_that_is_alone_in_what_is_left_of_its_group_is_left_out_too() -> None:
    groups = torch.tensor([0, 0, 1, 1, 2])
    assert rows_with_verdict([GOOD, LOST, GOOD, BAD, GOOD], None, groups).tolist() == [False, False, True, True, True]


def test_answers_whose_greedy_answer_has_no_verdict_have_no_baseline() -> None:
    groups = torch.tensor([0, 0, 1, 1])
    assert rows_with_verdict([GOOD, BAD, GOOD, BAD], [LOST, GOOD], groups).tolist() == [False, False, True, True]


def test_means_are_those_of_the_judged_answers() -> None:
    metrics = reward_metrics([GOOD, LOST, BAD, LOST])
    assert metrics["reward/mean"] == 0.5
    assert metrics["reward/part/f"] == 0.5
    assert metrics["reward/errors"] == 2.0


def test_reports_of_all_judging_add_up() -> None:
    reports = [
        JudgingReport(3, 1.0, {"timeout": 1}, 0.0, 1, 0),
        JudgingReport(1, 0.5, {"timeout": 1, "value": 1}, 1.0, 0, 2),
    ]
    assert judging_metrics(reports) == {
        "reward/judging_s": 1.5,
        "reward/remembered_fraction": 0.25,
        "reward/worker_restarts": 1.0,
        "reward/retries": 2.0,
        "reward/errors_timeout": 2.0,
        "reward/errors_value": 1.0,
    }
    assert judging_metrics([]) == {}


def answered(prompts: int = 2) -> Rollouts:
    return FakeEngine().generate(fake_prompts(prompts), SamplingParams(max_tokens=2, samples=4))


def learn_from(rewards: list[Reward], estimator: str = "grpo") -> tuple[Experience, dict[str, float]]:
    rollouts = answered()
    critic = FakeCritic(value=0.25) if estimator == "gae" else None
    said = ask_models(rollouts, FakeActor(), None, critic, temperature=1.0)
    settings = AdvantageSettings(build_estimator(AlgorithmSection(advantage=estimator)), "k1")
    return build_experience(rollouts, rewards, said, settings, RolloutCorrection())


@pytest.mark.parametrize("estimator", ["grpo", "gae", "rloo"])
def test_no_token_of_an_answer_without_a_verdict_is_in_the_loss(estimator: str) -> None:
    rewards = [GOOD, LOST, BAD, BAD, GOOD, GOOD, BAD, LOST]
    experience, metrics = learn_from(rewards, estimator)
    rows = experience.loss_mask.padded(False).any(dim=1)
    assert rows.tolist() == [reward.error is None for reward in rewards]
    assert not experience.advantages.padded(0.0)[~rows].any()
    assert metrics["reward/left_out_fraction"] == 0.25
    assert metrics["reward/total_mean"] == pytest.approx(0.5)


def test_a_step_without_any_verdict_is_refused() -> None:
    with pytest.raises(TrainingError, match="no answer of this step can be learned from"):
        learn_from([LOST] * 7 + [GOOD])
    with pytest.raises(RewardError, match=r"none of 8 answers could be judged.*f: no verdict"):
        BeingJudged(answered(), ("",) * 8, FakeJudging([LOST] * 8)).judged()


def test_shaping_takes_its_statistics_from_the_judged_answers() -> None:
    rewards = (GOOD, LOST, BAD, BAD, GOOD, GOOD, BAD, GOOD)
    result = RewardShaping(normalise="running")(Judged(answered(), ("",) * 8, rewards), None, Moments())
    assert result.moments.count == 7
    assert result.rewards[1].error is not None


def test_a_group_is_informative_by_its_judged_answers() -> None:
    judged = Judged(answered(), ("",) * 8, (GOOD, LOST, GOOD, GOOD, GOOD, LOST, BAD, GOOD))
    assert [judged.is_informative(rows) for rows in judged.groups()] == [False, True]
