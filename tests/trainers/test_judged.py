"""Groups of answers, and batches made of those that have something to teach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlkit.testing.fakes import FakeEngine, fake_prompts
from rlkit.trainers.judged import Judged, Refill
from rlkit.types import Reward, Rollouts, SamplingParams


def judged(*groups: list[float], first_row: int = 0) -> Judged:
    """One prompt for each list of scores."""
    samples = len(groups[0])
    prompts = fake_prompts(first_row + len(groups)).select(range(first_row, first_row + len(groups)))
    rollouts = FakeEngine().generate(prompts, SamplingParams(max_tokens=2, samples=samples))
    scores = [score for group in groups for score in group]
    return Judged(rollouts, tuple(f"answer {index}" for index in range(len(scores))), tuple(map(Reward, scores)))


def test_a_group_is_informative_when_its_rewards_differ():
    answers = judged([1.0, 1.0], [0.0, 1.0], [0.0, 0.0])
    assert [answers.is_informative(rows) for rows in answers.groups()] == [False, True, False]


def test_an_estimator_of_the_parts_is_taught_by_answers_with_equal_sums():
    answers = judged([1.0, 1.0])
    parts = [{"right": 1.0, "short": 0.0, "right/detail": 1.0}, {"right": 0.0, "short": 1.0, "right/detail": 1.0}]
    answers = replace(answers, rewards=tuple(Reward(1.0, part) for part in parts))
    (rows,) = answers.groups()
    assert not answers.is_informative(rows)
    assert answers.is_informative(rows, ("right", "short"))
    assert not answers.is_informative(rows, ("right/detail",))
    kept = Refill(wanted=1, parts=("right", "short"))
    kept.add(answers)
    assert kept.missing == 0


def test_selecting_keeps_rows_texts_and_verdicts_together():
    chosen = judged([1.0, 0.5], [0.25, 0.0]).select([3, 0])
    assert chosen.responses == ("answer 3", "answer 0")
    assert [reward.score for reward in chosen.rewards] == [0.0, 1.0]
    assert [prompt.row_id for prompt in chosen.rollouts.prompts] == [1, 0]


def test_a_refilled_batch_takes_informative_groups_first_and_has_the_wanted_size():
    refill = Refill(wanted=3)
    refill.add(judged([1.0, 1.0], [0.0, 1.0], [0.0, 0.0]))
    assert refill.missing == 2
    refill.add(judged([1.0, 0.0], [1.0, 1.0], first_row=3))
    assert refill.missing == 1
    result = refill.result()
    assert [prompt.row_id for prompt in result.rollouts.prompts] == [1, 1, 3, 3, 0, 0]
    assert result.rollouts.group_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert refill.metrics() == {
        "rollout/rounds": 2.0,
        "rollout/uninformative_fraction": 3 / 5,
        "reward/mean_of_all": pytest.approx(6 / 10),
    }


def test_joined_rollouts_count_their_groups_anew():
    first, second = judged([1.0, 0.0]).rollouts, judged([1.0, 0.0], [0.0, 1.0], first_row=1).rollouts
    joined = Rollouts.join([second, first])
    assert joined.group_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert [prompt.row_id for prompt in joined.prompts] == [1, 1, 2, 2, 0, 0]
    assert torch.equal(joined.response_ids.values, torch.cat([second.response_ids.values, first.response_ids.values]))
    assert joined.select([4, 5]).group_ids.tolist() == [2, 2]


def test_rollouts_of_different_weights_are_not_joined():
    from dataclasses import replace

    rollouts = judged([1.0, 0.0]).rollouts
    with pytest.raises(ValueError, match=r"policy versions \[0, 3\]"):
        Rollouts.join([rollouts, replace(rollouts, policy_version=3)])
    with pytest.raises(ValueError, match="only some of the rollouts"):
        Rollouts.join([rollouts, replace(rollouts, rollout_log_probs=None)])
