"""What holds for every policy loss, by itself and in the objective that the backends minimise."""

from __future__ import annotations

from dataclasses import replace

import loss_cases as cases
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkit.algos.aggregation import Denominators

EVERY = pytest.mark.parametrize("name", cases.LOSSES)
EVERY_WITH_MODES = pytest.mark.parametrize(("name", "mode"), cases.LOSSES_AND_MODES)
STOP_A_GRADIENT = ("cispo", "gspo")
"""Their value is not what they descend, by definition."""
WHOLE = [[[0, 1, 2, 3, 4, 5]]]


@st.composite
def ranks_of_micro_batches(draw: st.DrawFn) -> list[list[list[int]]]:
    """Six rows in any order over up to three ranks, each with micro-batches of its own; a rank may have none."""
    rows = draw(st.permutations(range(6)))
    ranks: list[list[list[int]]] = [[] for _ in range(draw(st.integers(1, 3)))]
    while rows:
        count = draw(st.integers(1, len(rows)))
        ranks[draw(st.integers(0, len(ranks) - 1))].append(list(rows[:count]))
        rows = rows[count:]
    return ranks


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Present and old log-probs, advantages and mask; zero outside the mask, as the objective gives them."""
    batch, present, _ = cases.mini_batch(seed)
    mask = batch.loss_mask.padded(False)
    values = (ragged.padded(0.0).where(mask, 0.0) for ragged in (present, batch.old_log_probs, batch.advantages))
    return *values, mask


def per_answer(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over each answer's tokens: what every loss can be aggregated by."""
    return losses.where(mask, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def test_the_cases_are_all_losses():
    assert len(cases.LOSSES) >= 10


@EVERY
def test_the_cases_reach_the_bounds_of_each_loss_and_stay_within_them_too(name):
    fractions: dict[str, list[float]] = {}
    for seed in range(6):
        log_probs, old, advantages, mask = tensors(seed)
        for metric, values in cases.policy_loss(name)(log_probs, old, advantages, mask).metrics.items():
            fractions.setdefault(metric, []).append(float(values[mask].mean()))
    for metric, found in fractions.items():
        assert 0 < sum(found) < len(found), metric


@EVERY
def test_on_policy_every_loss_has_the_plain_policy_gradient(name):
    """One advantage for each answer, as all estimators without a critic give them."""
    _, old, advantages, mask = tensors()
    advantages = (advantages.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)).where(mask, 0.0)
    present = old.clone().requires_grad_()
    options = {"clip_cov": {"cov_low": 1e3, "cov_high": 1e4}, "kl_cov": {"coefficient": 0.0}}.get(name, {})
    token = cases.policy_loss(name, **options)(present, old, advantages, mask)
    (gradient,) = torch.autograd.grad(per_answer(token.losses, mask).sum(), present)
    expected = -advantages / mask.sum(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    for metric in ("actor/clip_fraction", "actor/dual_clip_fraction"):
        assert metric not in token.metrics or not token.metrics[metric][mask].any()


@EVERY_WITH_MODES
@cases.FEW_EXAMPLES
@given(seed=st.integers(0, 10_000), ranks=ranks_of_micro_batches())
def test_no_split_over_micro_batches_and_ranks_changes_loss_or_gradient(name, mode, seed, ranks):
    batch, present, entropy = cases.mini_batch(seed)
    objective = cases.objective(name, mode)
    loss, *gradients, metrics = cases.run_policy(objective, batch, present, entropy, WHOLE)
    split_loss, *split_gradients, split_metrics = cases.run_policy(objective, batch, present, entropy, ranks)
    torch.testing.assert_close(split_loss, loss, rtol=1e-9, atol=1e-12)
    for actual, expected in zip(split_gradients, gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert split_metrics == pytest.approx(metrics, rel=1e-5, abs=1e-9)


@EVERY_WITH_MODES
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_what_stands_outside_the_mask_is_of_no_account(name, mode, garbage):
    batch, present, entropy = cases.mini_batch(1)
    objective = cases.objective(name, mode)
    loss, *gradients, metrics = cases.run_policy(objective, batch, present, entropy, WHOLE)
    outside = ~batch.loss_mask.values
    dirty = [ragged.with_values(ragged.values.masked_fill(outside, garbage)) for ragged in (present, entropy)]
    spoilt_loss, *spoilt_gradients, spoilt_metrics = cases.run_policy(
        objective, cases.spoil(batch, garbage), *dirty, WHOLE, fill=garbage
    )
    torch.testing.assert_close(spoilt_loss, loss)
    for actual, expected in zip(spoilt_gradients, gradients, strict=True):
        torch.testing.assert_close(actual, expected)
        assert not actual[outside].any()
        assert actual[~outside].any()
    assert spoilt_metrics == pytest.approx(metrics)


@EVERY
def test_inserting_tool_output_leaves_the_other_tokens_alone(name):
    log_probs, old, advantages, mask = tensors(2)
    losses, gradients = [], []
    for at in (None, 0, 2, mask.shape[1]):

        def insert(values: torch.Tensor, at: int | None = at) -> torch.Tensor:
            block = values.new_zeros(len(values), 0 if at is None else 2)
            return torch.cat([values[:, : at or 0], block, values[:, at or 0 :]], dim=1)

        leaf = log_probs.clone().requires_grad_()
        chosen = insert(mask)
        options = {"fraction": 1.0} if name == "clip_cov" else {}  # its lots are drawn from the tokens' places too
        token = cases.policy_loss(name, **options)(insert(leaf), insert(old), insert(advantages), chosen)
        losses.append(token.losses[chosen].detach())
        gradients.append(
            torch.autograd.grad((token.losses[chosen] * torch.arange(1, int(mask.sum()) + 1)).sum(), leaf)[0]
        )
    for other, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(other, losses[0])
        torch.testing.assert_close(gradient, gradients[0])


@EVERY
def test_permuting_the_rows_permutes_losses_and_gradients(name):
    present, old, advantages, mask = tensors(3)
    order = torch.tensor([4, 0, 5, 2, 1, 3])

    def run(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = present[rows].clone().requires_grad_()
        losses = cases.policy_loss(name)(leaf, old[rows], advantages[rows], mask[rows]).losses.where(mask[rows], 0.0)
        return losses.detach(), torch.autograd.grad(losses.square().sum(), leaf)[0]

    for actual, expected in zip(run(order), run(torch.arange(6)), strict=True):
        torch.testing.assert_close(actual, expected[order])


@EVERY
@pytest.mark.parametrize("seed", range(3))
def test_gradients_agree_with_finite_differences(name, seed):
    log_probs, old, advantages, mask = tensors(seed)
    loss = cases.policy_loss(name)
    selected = {}
    if hasattr(loss, "select"):  # which tokens are chosen is no function to be differentiated
        selected = {"selected": loss.select(log_probs, old, advantages, mask)}

    def losses(sampled: torch.Tensor) -> torch.Tensor:
        return loss(torch.zeros_like(old).masked_scatter(mask, sampled), old, advantages, mask, **selected).losses[mask]

    sampled = log_probs[mask].clone().requires_grad_()
    if name not in STOP_A_GRADIENT:
        assert torch.autograd.gradcheck(losses, sampled)
        return
    jacobian = torch.autograd.functional.jacobian(losses, sampled)
    torch.testing.assert_close(jacobian, torch.diag(descended(name, log_probs, old, advantages, mask)))


def descended(name: str, log_probs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor):
    """The slopes that the papers give: MiniMax 2025, eq. 4; Zheng et al. 2025, eq. 17 (token by token)."""
    low, high = 1 - cases.OPTIONS[name]["clip_low"], 1 + cases.OPTIONS[name]["clip_high"]
    ratio = (log_probs - old).exp()
    if name == "cispo":
        return (-advantages * ratio.clamp(low, high))[mask]
    means = (log_probs - old).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    ratio = means.exp().expand(mask.shape)
    clipped = ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < low))
    return (-advantages * ratio).masked_fill(clipped, 0.0)[mask]


@pytest.mark.parametrize("name", [name for name in cases.LOSSES if name not in STOP_A_GRADIENT])
def test_the_whole_objective_agrees_with_finite_differences(name):
    mode = cases.allowed_modes(name)[-1]
    batch, present, entropy = cases.mini_batch(4)
    objective = cases.objective(name, mode)
    prepared = objective.prepare(batch, lambda: present)
    denominators = Denominators.of(batch.loss_mask.padded(False))

    def loss(log_probs: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
        padded = (present.with_values(values).padded(0.0) for values in (log_probs, entropies))
        return objective(*padded, prepared, denominators).loss

    leaves = [ragged.values.clone().requires_grad_() for ragged in (present, entropy)]
    assert torch.autograd.gradcheck(loss, leaves)


@EVERY
def test_enormous_ratios_stay_finite(name):
    mask = torch.tensor([[True, True, True, False]])
    old = torch.tensor([[-0.1, -1.0, -0.2, 0.0]])
    for advantage in (1.0, -1.0):
        present = torch.tensor([[-100.0, 100.0, -0.1, 0.0]]).requires_grad_()
        token = cases.policy_loss(name)(present, old, torch.full((1, 4), advantage), mask)
        (gradient,) = torch.autograd.grad(token.losses[mask].sum(), present)
        assert torch.isfinite(token.losses[mask]).all()
        assert torch.isfinite(gradient).all()


@EVERY
def test_float64_stays_float64_and_half_precision_goes_up_to_float32(name):
    log_probs, old, advantages, mask = tensors()
    assert cases.policy_loss(name)(log_probs, old, advantages, mask).losses.dtype == torch.float64
    half = cases.policy_loss(name)(log_probs.bfloat16(), old.bfloat16(), advantages.bfloat16(), mask)
    assert half.losses.dtype == torch.float32


@EVERY_WITH_MODES
def test_a_mini_batch_that_was_rejected_whole_has_no_loss_and_no_gradient(name, mode):
    batch, present, entropy = cases.mini_batch(5)
    nothing = replace(batch, loss_mask=batch.loss_mask.with_values(torch.zeros_like(batch.loss_mask.values)))
    loss, *gradients, _ = cases.run_policy(cases.objective(name, mode), nothing, present, entropy, WHOLE)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)
