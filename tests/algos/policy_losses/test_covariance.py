"""Covariances, lots and the order by them, over a whole mini-batch."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.policy_losses.covariance import draw_lots, first_of, share_of, token_covariances


def test_covariances_by_hand():
    log_probs = torch.tensor([[-1.0, -3.0], [-2.0, float("nan")]])
    advantages = torch.tensor([[1.0, 2.0], [-3.0, float("inf")]])
    mask = torch.tensor([[True, True], [True, False]])
    # Means are -2 and 0, so that 1 * 1, -1 * 2 and 0 * -3 are left.
    assert token_covariances(log_probs, advantages, mask).tolist() == [[1.0, -2.0], [0.0, 0.0]]


def test_the_mean_covariance_is_that_of_the_two_samples(random_tokens):
    tokens = random_tokens(0, 20, 9)
    covariances = token_covariances(tokens.log_probs, tokens.advantages, tokens.mask)
    pairs = torch.stack([tokens.log_probs[tokens.mask], tokens.advantages[tokens.mask]])
    expected = torch.cov(pairs, correction=0)[0, 1]
    torch.testing.assert_close(covariances.sum() / tokens.mask.sum(), expected)


@pytest.mark.parametrize("seed", range(20))
def test_neither_order_nor_padding_changes_a_bit(random_tokens, seed):
    tokens = random_tokens(seed, 12, 7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()
    moved = tokens.rows(order)
    wide = [torch.nn.functional.pad(tensor, (0, 3)) for tensor in vars(tokens).values()]
    covariances = token_covariances(tokens.log_probs, tokens.advantages, tokens.mask)
    assert torch.equal(token_covariances(moved.log_probs, moved.advantages, moved.mask), covariances[order])
    assert torch.equal(token_covariances(wide[0], wide[2], wide[3])[:, :7], covariances)
    lots = draw_lots(tokens.old_log_probs, tokens.advantages, tokens.mask)
    assert torch.equal(draw_lots(moved.old_log_probs, moved.advantages, moved.mask), lots[order])
    assert torch.equal(draw_lots(wide[1], wide[2], wide[3])[:, :7], lots)


def test_lots_differ_unless_two_answers_are_identical():
    # The same log-prob and advantage everywhere: only place and company are left to tell tokens apart.
    old = torch.full((4, 3), -0.5)
    old[1, 2] = -0.6
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[2, 2] = False
    lots = draw_lots(old, torch.ones(4, 3), mask)
    assert torch.equal(lots[0], lots[3])
    assert len(set(lots[:3][mask[:3]].tolist())) == 8
    assert int(lots[mask].min()) >= 0


def test_lots_do_not_look_outside_the_mask():
    old, advantages = torch.tensor([[-0.5, float("nan")]]), torch.tensor([[1.0, float("inf")]])
    mask = torch.tensor([[True, False]])
    expected = draw_lots(torch.tensor([[-0.5, 0.0]]), torch.tensor([[1.0, 0.0]]), mask)
    assert torch.equal(draw_lots(old, advantages, mask), expected)


def test_lots_are_spread_evenly_over_rows_places_and_values():
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(400, 50, generator=generator)
    lots = draw_lots(old, torch.ones(400, 50), torch.ones(400, 50, dtype=torch.bool)).double() / 2**63
    assert float(lots.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(lots.var(correction=0)) == pytest.approx(1 / 12, abs=0.002)
    for other in (old.double(), torch.arange(50.0).expand(400, 50).double()):
        pair = torch.stack([lots.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.03  # four standard errors
    halves = (lots < 0.5).double()
    pair = torch.stack([halves[:, 1:].flatten(), halves[:, :-1].flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.03


def test_later_keys_decide_among_equals():
    candidates = torch.tensor([[True, True, True], [True, False, True]])
    first = torch.tensor([[2.0, 1.0, 1.0], [1.0, 0.0, 3.0]])
    second = torch.tensor([[0, 5, 4], [6, 0, 0]])
    assert first_of(candidates, 2, first, second).tolist() == [[False, True, True], [False, False, False]]
    assert first_of(candidates, 1, first, second).tolist() == [[False, False, True], [False, False, False]]
    assert torch.equal(first_of(candidates, 9, first, second), candidates)


@pytest.mark.parametrize(("fraction", "count"), [(1.0, 10), (0.55, 5), (0.1, 1), (1e-4, 1)])
def test_a_share_is_rounded_down_but_never_to_nothing(fraction, count):
    mask = torch.tensor([[True] * 7 + [False], [True] * 3 + [False] * 5])
    assert share_of(mask, fraction) == count
