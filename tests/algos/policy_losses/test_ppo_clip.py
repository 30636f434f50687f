"""The clipped surrogate case by case: who gets a gradient and who does not."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.algos.policy_losses.ppo_clip import PPOClip

MASK = torch.ones(1, 4, dtype=torch.bool)


def loss_and_gradient(ratio: float, advantage: float) -> tuple[float, float]:
    log_probs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    token = PPOClip(clip_low=0.2, clip_high=0.3, dual_clip=3.0)(
        log_probs, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1, dtype=torch.bool)
    )
    token.losses.sum().backward()
    assert log_probs.grad is not None
    return float(token.losses.detach()), float(log_probs.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on-policy: the plain policy gradient
        (1.2, 1.0, -1.2, -1.2),  # inside the range
        (1.5, 1.0, -1.3, 0.0),  # good and already likelier than 1 + 0.3: no more push
        (0.5, 1.0, -0.5, -0.5),  # good but less likely: full push back up
        (0.5, -1.0, 0.8, 0.0),  # bad and already rarer than 1 - 0.2: no more push
        (1.5, -1.0, 1.5, 1.5),  # bad and likelier: full push down
        (9.0, -1.0, 3.0, 0.0),  # dual clip: one outlier cannot own the batch
    ],
)
def test_loss_and_gradient_case_by_case(ratio, advantage, loss, gradient):
    assert loss_and_gradient(ratio, advantage) == pytest.approx((loss, gradient), rel=1e-5)


def test_an_enormous_ratio_stays_finite():
    loss, gradient = loss_and_gradient(1e30, -1.0)
    assert math.isfinite(loss)
    assert math.isfinite(gradient)


def test_metrics_are_per_token_indicators():
    log_probs = torch.log(torch.tensor([[1.0, 1.5, 0.5, 9.0]]))
    token = PPOClip(0.2, 0.3, 3.0)(log_probs, torch.zeros(1, 4), torch.tensor([[1.0, 1.0, -1.0, -1.0]]), MASK)
    assert token.metrics["actor/clip_fraction"].tolist() == [[0.0, 1.0, 1.0, 0.0]]
    assert token.metrics["actor/clip_fraction_high"].tolist() == [[0.0, 1.0, 0.0, 0.0]]
    assert token.metrics["actor/clip_fraction_low"].tolist() == [[0.0, 0.0, 1.0, 0.0]]
    assert token.metrics["actor/dual_clip_fraction"].tolist() == [[0.0, 0.0, 0.0, 1.0]]
