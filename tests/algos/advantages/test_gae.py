"""GAE by hand, and what must not matter to it."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.advantages.gae import compute_gae


def test_two_tokens_by_hand():
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])
    advantages, returns = compute_gae(
        rewards, values, torch.ones(1, 2, dtype=torch.bool), gamma=0.9, lam=0.5, whiten=False
    )
    last = 1.0 - 0.25
    first = 0.9 * 0.25 - 0.5 + 0.9 * 0.5 * last
    torch.testing.assert_close(advantages, torch.tensor([[first, last]]))
    torch.testing.assert_close(returns, torch.tensor([[first + 0.5, last + 0.25]]))


def test_lambda_one_gives_the_discounted_return_less_the_value():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(3, 6, generator=generator), torch.randn(3, 6, generator=generator)
    mask = torch.ones(3, 6, dtype=torch.bool)
    _, returns = compute_gae(rewards, values, mask, gamma=0.8, lam=1.0, whiten=False)
    expected = torch.stack([sum(0.8 ** (k - t) * rewards[:, k] for k in range(t, 6)) for t in range(6)], dim=1)
    torch.testing.assert_close(returns, expected)


@pytest.mark.parametrize("whiten", [False, True])
def test_tool_output_inside_an_answer_changes_nothing_for_the_other_tokens(whiten):
    generator = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(2, 5, generator=generator), torch.randn(2, 5, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)

    def insert(tensor, fill):
        return torch.cat([tensor[:, :2], torch.full((2, 3), fill, dtype=tensor.dtype), tensor[:, 2:]], dim=1)

    plain = compute_gae(rewards, values, mask, gamma=0.9, lam=0.7, whiten=whiten)
    spread = compute_gae(
        insert(rewards, float("nan")), insert(values, 7.0), insert(mask, False), gamma=0.9, lam=0.7, whiten=whiten
    )
    keep = [0, 1, 5, 6, 7]
    for before, after in zip(plain, spread, strict=True):
        torch.testing.assert_close(after[:, keep], before)
        assert not after[:, 2:5].any()


def test_whitened_advantages_have_mean_zero_and_variance_one_over_the_mask():
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(8, 20, generator=generator) < 0.6
    advantages, _ = compute_gae(
        torch.randn(8, 20, generator=generator), torch.randn(8, 20, generator=generator), mask, gamma=1.0, lam=0.95
    )
    chosen = advantages[mask]
    assert float(chosen.mean()) == pytest.approx(0, abs=1e-6)
    assert float(chosen.var()) == pytest.approx(1, abs=1e-5)
    assert not advantages[~mask].any()
