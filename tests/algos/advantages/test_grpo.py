"""Group-relative advantages by hand, and what must not matter to them."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.advantages.grpo import compute_grpo


def column(*scores: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards [B, 2] with each score on the last token, and the mask."""
    rewards = torch.zeros(len(scores), 2)
    rewards[:, 1] = torch.tensor(scores)
    return rewards, torch.ones(len(scores), 2, dtype=torch.bool)


def test_a_group_by_hand():
    rewards, mask = column(1.0, 0.0, 0.0, 0.0)
    advantages = compute_grpo(rewards, mask, torch.zeros(4, dtype=torch.int64))
    # mean 1/4; squared deviations 9/16 + 3/16 over 3: standard deviation 1/2
    torch.testing.assert_close(advantages[:, 0], torch.tensor([1.5, -0.5, -0.5, -0.5]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(advantages[:, 0], advantages[:, 1])


def test_equal_answers_teach_nothing():
    rewards, mask = column(1.0, 1.0, 0.0, 0.0)
    assert not compute_grpo(rewards, mask, torch.tensor([5, 5, 9, 9])).any()


@pytest.mark.parametrize("answers", [3, 7, 8, 16])
@pytest.mark.parametrize("score", [0.1, 0.9, 1.1, -3.3, 100.1])
def test_equal_scores_that_float32_rounds_teach_nothing_either(answers, score):
    rewards, mask = column(*[score] * answers)
    assert not compute_grpo(rewards, mask, torch.zeros(answers, dtype=torch.int64)).any()


def test_a_group_of_one_keeps_its_score():
    rewards, mask = column(0.7)
    assert float(compute_grpo(rewards, mask, torch.tensor([3]))[0, 0]) == pytest.approx(0.7, rel=1e-5)


def test_the_order_of_rows_does_not_matter():
    rewards, mask = column(1.0, 0.2, 0.5, 0.0, 0.9, 0.3)
    groups = torch.tensor([0, 1, 0, 1, 0, 1])
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    expected = compute_grpo(rewards, mask, groups)[order]
    torch.testing.assert_close(compute_grpo(rewards[order], mask[order], groups[order]), expected)


def test_scaling_and_shifting_the_rewards_changes_nothing():
    rewards, mask = column(1.0, 0.2, 0.5, 0.0)
    groups = torch.zeros(4, dtype=torch.int64)
    shifted, _ = column(*(10 * score + 3 for score in (1.0, 0.2, 0.5, 0.0)))
    torch.testing.assert_close(
        compute_grpo(shifted, mask, groups), compute_grpo(rewards, mask, groups), rtol=1e-4, atol=1e-5
    )
