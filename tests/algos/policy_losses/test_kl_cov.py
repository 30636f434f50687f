"""KL-Cov against plain loops written from the paper."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.algos.policy_losses.kl_cov import KLCov


def penalised_by_hand(tokens, fraction):
    """Eq. 10 and 13: the tokens of largest covariance."""
    places = tokens.places()
    mean_log_prob = sum(float(tokens.log_probs[place]) for place in places) / len(places)
    mean_advantage = sum(float(tokens.advantages[place]) for place in places) / len(places)

    def covariance(place):
        return (float(tokens.log_probs[place]) - mean_log_prob) * (float(tokens.advantages[place]) - mean_advantage)

    count = max(1, math.floor(fraction * len(places)))
    return set(sorted(places, key=covariance, reverse=True)[:count])


@pytest.mark.parametrize("fraction", [0.02, 0.3, 1.0])
@pytest.mark.parametrize(("seed", "rows", "columns"), [(0, 1, 1), (1, 6, 5), (2, 3, 40), (3, 30, 4), (4, 25, 25)])
def test_values_and_gradients_equal_plain_loops(random_tokens, seed, rows, columns, fraction):
    tokens = random_tokens(seed, rows, columns)
    loss = KLCov(fraction, coefficient=0.7)
    present = tokens.log_probs.clone().requires_grad_()
    token = loss(present, tokens.old_log_probs, tokens.advantages, tokens.mask)
    (gradient,) = torch.autograd.grad(token.losses[tokens.mask].sum(), present)
    penalised = penalised_by_hand(tokens, fraction)
    for place in tokens.places():
        difference = float(tokens.log_probs[place]) - float(tokens.old_log_probs[place])
        value = slope = -float(tokens.advantages[place]) * math.exp(difference)
        if place in penalised:
            value += 0.7 * abs(difference)
            slope += math.copysign(0.7, difference)
        assert float(token.losses[place].detach()) == pytest.approx(value, rel=1e-12, abs=1e-14)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-12, abs=1e-14)
        assert float(token.metrics["actor/selected_fraction"][place]) == (place in penalised)


def test_three_tokens_by_hand():
    # Means: log-prob -2, advantage 0; covariances 3, 0 and 2.
    log_probs = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    old_log_probs = torch.tensor([[-1.5, -2.0, -3.0]])
    advantages = torch.tensor([[3.0, -1.0, -2.0]])
    token = KLCov(0.4, 2.0)(log_probs, old_log_probs, advantages, torch.ones(1, 3, dtype=torch.bool))
    ratio = math.exp(0.5)
    assert token.losses.tolist() == [pytest.approx([-3 * ratio + 2 * 0.5, 1.0, 2.0])]
    (gradient,) = torch.autograd.grad(token.losses.sum(), log_probs)
    assert gradient.tolist() == [pytest.approx([-3 * ratio + 2, 1.0, 2.0])]


@pytest.mark.parametrize("seed", range(10))
def test_equal_covariances_are_told_apart_the_same_way_in_every_order(seed):
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(20, 6, generator=generator)
    advantages = torch.full((20, 6), 0.3)  # no spread at all: every covariance is the same
    mask = torch.ones(20, 6, dtype=torch.bool)
    loss = KLCov(0.2, 1.0)
    log_probs = torch.full((20, 6), -0.7)
    order = torch.randperm(20, generator=generator)
    selected = loss.select(log_probs, old, advantages, mask)
    assert int(selected.sum()) == 24
    assert torch.equal(loss.select(log_probs, old[order], advantages, mask), selected[order])
