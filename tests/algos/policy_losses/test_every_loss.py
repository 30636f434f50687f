"""What holds for every policy loss."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from rlkit.algos.policy_losses.token_losses import PolicyLoss
from rlkit.config.algorithm import AlgorithmSection
from rlkit.pipelines.objectives import POLICY_LOSSES, build_policy_objective

SECTION = AlgorithmSection()
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)


def loss(name: str) -> PolicyLoss:
    return POLICY_LOSSES[name](SECTION)


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Present and old log-probs, and one advantage for each answer."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(MASK.shape, generator=generator)
    present = old + 0.1 * torch.randn(MASK.shape, generator=generator)
    return present, old, torch.randn(3, 1, generator=generator).expand(MASK.shape)


def per_answer(losses: torch.Tensor) -> torch.Tensor:
    """Mean over each answer's tokens: what every loss can be aggregated by."""
    return torch.where(MASK, losses, 0.0).sum(dim=1) / MASK.sum(dim=1)


def test_config_and_table_have_the_same_names():
    assert set(get_args(AlgorithmSection.model_fields["policy_loss"].annotation)) == set(POLICY_LOSSES)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_on_policy_every_loss_has_the_plain_policy_gradient(name):
    _, old, advantages = tensors()
    present = old.clone().requires_grad_()
    token = loss(name)(present, old, advantages, MASK)
    (gradient,) = torch.autograd.grad(per_answer(token.losses).sum(), present)
    lengths = MASK.sum(dim=1, keepdim=True)
    torch.testing.assert_close(gradient, torch.where(MASK, -advantages / lengths, 0.0), rtol=1e-5, atol=1e-6)
    if "actor/clip_fraction" in token.metrics:
        assert not token.metrics["actor/clip_fraction"][MASK].any()
    assert not token.metrics["actor/kl_to_old"].any()


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_rows_do_not_see_each_other(name):
    present, old, advantages = tensors()
    whole = loss(name)(present, old, advantages, MASK).losses
    order = [2, 0]
    some = loss(name)(present[order], old[order], advantages[order], MASK[order]).losses
    torch.testing.assert_close(some, whole[order])


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_padding_columns_change_nothing(name):
    present, old, advantages = tensors()

    def wide(tensor, fill=0.0):
        return torch.nn.functional.pad(tensor, (0, 2), value=fill)

    padded = loss(name)(wide(present), wide(old), wide(advantages), wide(MASK, False)).losses
    expected = loss(name)(present, old, advantages, MASK).losses
    torch.testing.assert_close(padded[:, :4][MASK], expected[MASK])


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_gradients_agree_with_finite_differences(name):
    """Of the value, except where a stop-gradient makes the value another function (cispo, gspo's tokens)."""
    if name in ("cispo", "gspo"):
        pytest.skip("its gradient is not that of its value, by definition")
    present, old, advantages = tensors(seed=3)
    # Far enough inside the clip range that a small step crosses no kink.
    present = old + 0.2 * (present - old)
    present.requires_grad_()
    (gradient,) = torch.autograd.grad(per_answer(loss(name)(present, old, advantages, MASK).losses).sum(), present)
    step = 1e-2
    for row, column in MASK.nonzero().tolist():
        moved = []
        for sign in (1, -1):
            shifted = present.detach().clone()
            shifted[row, column] += sign * step
            moved.append(float(per_answer(loss(name)(shifted, old, advantages, MASK).losses).sum()))
        assert float(gradient[row, column]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=2e-2, abs=2e-4)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_enormous_ratios_stay_finite(name):
    present = torch.tensor([[100.0, -100.0, 0.0, 0.0]]).requires_grad_()
    mask = torch.tensor([[True, True, True, False]])
    for advantage in (1.0, -1.0):
        token = loss(name)(present, torch.zeros(1, 4), torch.full((1, 4), advantage), mask)
        (gradient,) = torch.autograd.grad(token.losses[mask].sum(), present)
        assert torch.isfinite(token.losses[mask]).all()
        assert torch.isfinite(gradient).all()


def test_the_objective_takes_its_horizon_from_the_answers_unless_told():
    assert build_policy_objective(SECTION, horizon=7).aggregation.horizon == 7
    assert build_policy_objective(AlgorithmSection(horizon=3), horizon=7).aggregation.horizon == 3
