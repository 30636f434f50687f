"""DPPO against plain loops written from the paper, and case by case."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.algos.policy_losses.dppo import DPPOKL, DPPOTotalVariation


def total_variation(old, present):
    """Eq. 13."""
    return abs(old - present)


def kl(old, present):
    """Eq. 14."""
    return old * math.log(old / present) + (1 - old) * math.log((1 - old) / (1 - present))


@pytest.mark.parametrize(
    ("loss", "divergence"),
    [
        (DPPOTotalVariation(0.05), total_variation),
        (DPPOTotalVariation(0.15), total_variation),
        (DPPOKL(0.02), kl),
        (DPPOKL(0.05), kl),
    ],
)
@pytest.mark.parametrize(("seed", "rows", "columns"), [(0, 1, 1), (1, 6, 5), (2, 3, 40), (3, 30, 4)])
def test_values_and_gradients_equal_plain_loops(random_tokens, loss, divergence, seed, rows, columns):
    tokens = random_tokens(seed, rows, columns)
    present = tokens.log_probs.clamp(max=-1e-3).requires_grad_()
    token = loss(present, tokens.old_log_probs, tokens.advantages, tokens.mask)
    (gradient,) = torch.autograd.grad(token.losses[tokens.mask].sum(), present)
    blocked = 0
    for place in tokens.places():
        p, old = math.exp(float(present[place].detach())), math.exp(float(tokens.old_log_probs[place]))
        ratio, advantage = p / old, float(tokens.advantages[place])
        away = (advantage > 0 and ratio > 1) or (advantage < 0 and ratio < 1)
        stopped = away and divergence(old, p) > loss.threshold
        expected = 0.0 if stopped else -advantage * ratio
        assert float(token.losses[place].detach()) == pytest.approx(expected, rel=1e-12)
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-12)  # d(-A r) / d log p = -A r
        assert float(token.metrics["actor/clip_fraction"][place]) == stopped
        blocked += stopped
    assert len(tokens.places()) < 10 or 0 < blocked < len(tokens.places())


@pytest.mark.parametrize(
    ("old", "present", "advantage", "blocked"),
    [
        (0.5, 0.7, 1.0, True),  # moved by 0.2 and pushed on
        (0.5, 0.6, 1.0, False),  # by 0.1 only
        (0.5, 0.7, -1.0, False),  # pushed back
        (0.5, 0.3, -1.0, True),
        (0.5, 0.3, 1.0, False),
        (0.99, 0.8, -1.0, True),  # a ratio of 0.81, which PPO's clip at 0.8 would let pass
        (1e-5, 1e-3, 1.0, False),  # a ratio of 100, which PPO would stop
        (0.5, 0.7, 0.0, False),
    ],
)
def test_total_variation_case_by_case(old, present, advantage, blocked):
    log_probs = torch.tensor([[math.log(present)]], requires_grad=True)
    token = DPPOTotalVariation(0.15)(
        log_probs, torch.tensor([[math.log(old)]]), torch.tensor([[advantage]]), torch.ones(1, 1, dtype=torch.bool)
    )
    expected = 0.0 if blocked else -advantage * present / old
    assert token.losses.item() == pytest.approx(expected, rel=1e-5)
    assert token.metrics["actor/clip_fraction"].item() == blocked


def test_a_certain_token_does_not_diverge_by_rounding():
    """A float32 log-prob of 0 is a probability of 1 to seven digits: no reason to call the step from 1 - 1e-7 infinite."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    old, present = torch.tensor([[-1e-7]]), torch.zeros(1, 1)
    for before, after, advantage in ((old, present, 1.0), (present, old, -1.0)):
        token = DPPOKL(1e-4)(after, before, torch.tensor([[advantage]]), mask)
        assert token.metrics["actor/clip_fraction"].item() == 0
    far = DPPOKL(0.05)(torch.tensor([[math.log(0.8)]]), present, -torch.ones(1, 1), mask)
    assert far.metrics["actor/clip_fraction"].item() == 1  # log(1 / 0.8) is 0.22 nats
