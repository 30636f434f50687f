"""Clip-Cov against plain loops written from the paper, and the draw of its tokens."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from rlkit.algos.policy_losses.clip_cov import ClipCov

LOSS = ClipCov(clip_low=0.2, clip_high=0.28, fraction=0.1, cov_low=0.2, cov_high=2.0)


def candidates_by_hand(tokens, loss):
    """Eq. 10 and 11: tokens in the band; those that the clip stops are left out."""
    places = tokens.places()
    mean_log_prob = sum(float(tokens.log_probs[place]) for place in places) / len(places)
    mean_advantage = sum(float(tokens.advantages[place]) for place in places) / len(places)
    found = []
    for place in places:
        advantage = float(tokens.advantages[place])
        covariance = (float(tokens.log_probs[place]) - mean_log_prob) * (advantage - mean_advantage)
        if loss.cov_low <= covariance <= loss.cov_high and not is_clipped(tokens, place, loss):
            found.append(place)
    return found


def is_clipped(tokens, place, loss):
    ratio = math.exp(float(tokens.log_probs[place]) - float(tokens.old_log_probs[place]))
    if float(tokens.advantages[place]) > 0:
        return ratio > 1 + loss.clip_high
    return ratio < 1 - loss.clip_low


def loss_and_gradient_by_hand(tokens, place, loss, *, drawn):
    """Eq. 12 with the clip of listing 1."""
    ratio = math.exp(float(tokens.log_probs[place]) - float(tokens.old_log_probs[place]))
    advantage = float(tokens.advantages[place])
    if drawn:
        return 0.0, 0.0
    if is_clipped(tokens, place, loss):
        bound = 1 + loss.clip_high if advantage > 0 else 1 - loss.clip_low
        return -advantage * bound, 0.0
    return -advantage * ratio, -advantage * ratio


@pytest.mark.parametrize("fraction", [0.02, 0.1, 1.0])
@pytest.mark.parametrize(("seed", "rows", "columns"), [(0, 1, 1), (1, 6, 5), (2, 3, 40), (3, 30, 4), (4, 25, 25)])
def test_values_and_gradients_equal_plain_loops(random_tokens, seed, rows, columns, fraction):
    tokens = random_tokens(seed, rows, columns)
    loss = ClipCov(0.2, 0.28, fraction, 0.2, 2.0)
    selected = loss.select(tokens.log_probs, tokens.old_log_probs, tokens.advantages, tokens.mask)
    allowed = candidates_by_hand(tokens, loss)
    drawn = [(row, column) for row, column in selected.nonzero().tolist()]
    assert set(drawn) <= set(allowed)
    assert len(drawn) == min(len(allowed), max(1, math.floor(fraction * len(tokens.places()))))
    present = tokens.log_probs.clone().requires_grad_()
    token = loss(present, tokens.old_log_probs, tokens.advantages, tokens.mask, selected)
    (gradient,) = torch.autograd.grad(token.losses[tokens.mask].sum(), present)
    for place in tokens.places():
        value, slope = loss_and_gradient_by_hand(tokens, place, loss, drawn=place in drawn)
        assert float(token.losses[place].detach()) == pytest.approx(value, rel=1e-12, abs=1e-14)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-12, abs=1e-14)
        assert float(token.metrics["actor/clip_fraction"][place]) == is_clipped(tokens, place, loss)
        assert float(token.metrics["actor/selected_fraction"][place]) == (place in drawn)


def test_four_tokens_by_hand():
    # Means: log-prob -2, advantage 0. Covariances: 1 * 2, 1 * -2, -1 * 2, -1 * -2.
    log_probs = torch.tensor([[-1.0, -1.0, -3.0, -3.0]], requires_grad=True)
    advantages = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    loss = ClipCov(0.2, 0.2, 0.5, 1.0, 5.0)
    token = loss(log_probs, log_probs.detach(), advantages, torch.ones(1, 4, dtype=torch.bool))
    assert token.losses.tolist() == [[0.0, 2.0, -2.0, 0.0]]
    (gradient,) = torch.autograd.grad(token.losses.sum(), log_probs)
    assert gradient.tolist() == [[0.0, 2.0, -2.0, 0.0]]


def test_a_band_without_tokens_leaves_the_clipped_surrogate(random_tokens):
    tokens = random_tokens(0, 5, 5)
    nobody = ClipCov(0.2, 0.28, 1.0, 50.0, 60.0)
    selected = nobody.select(tokens.log_probs, tokens.old_log_probs, tokens.advantages, tokens.mask)
    assert not selected.any()


def test_every_candidate_is_drawn_about_equally_often(random_tokens):
    drawn, offered = Counter[int](), Counter[int]()
    for seed in range(400):
        tokens = random_tokens(seed, 8, 8)
        selected = LOSS.select(tokens.log_probs, tokens.old_log_probs, tokens.advantages, tokens.mask)
        # By rank of the log-prob among the candidates: a draw that looks at it would favour some quarter.
        allowed = sorted(candidates_by_hand(tokens, LOSS), key=lambda place: float(tokens.log_probs[place]))
        for rank, place in enumerate(allowed):
            quarter = 4 * rank // len(allowed)
            offered[quarter] += 1
            drawn[quarter] += int(selected[place])
    rates = [drawn[quarter] / offered[quarter] for quarter in range(4)]
    overall = drawn.total() / offered.total()
    assert 0.1 < overall < 0.9
    assert rates == pytest.approx([overall] * 4, abs=0.07)  # about four standard errors
