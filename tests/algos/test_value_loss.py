"""The critic's loss: what holds of it by itself and in the objective that the backends minimise."""

from __future__ import annotations

from itertools import pairwise

import loss_cases as cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.algos.objective import ValueObjective
from rlkit.algos.value_loss import compute_value_losses
from rlkit.types import Experience, Ragged

OBJECTIVE = ValueObjective(clip=0.5)


def run(
    batch: Experience, values: Ragged, ranks: list[list[int]], *, fill: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Loss, gradient [N] and metrics added up over the ranks' rows."""
    leaf = values.values.detach().clone().requires_grad_()
    denominators = cases.count_over_ranks(batch, ranks)
    loss, metrics = torch.zeros((), dtype=leaf.dtype), dict[str, float]()
    for rows in filter(None, ranks):
        padded = values.with_values(leaf).select(rows).padded(fill)
        share = OBJECTIVE(padded, batch.select(rows), denominators)
        loss = loss + share.loss
        for metric, value in share.metrics.items():
            metrics[metric] = metrics.get(metric, 0.0) + float(value)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0], metrics


def case(seed: int) -> tuple[Experience, Ragged]:
    """Present values around the old ones, about half of them further away than the clip."""
    batch, present, entropy = cases.mini_batch(seed)
    assert batch.old_values is not None
    noise = torch.randn(present.num_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return batch, entropy.with_values(batch.old_values.values + 0.7 * noise)


@settings(cases.FEW_EXAMPLES, max_examples=20)
@given(seed=st.integers(0, 10_000), rows=st.permutations(range(6)), cuts=st.sets(st.integers(1, 5)))
def test_no_split_over_micro_batches_and_ranks_changes_loss_or_gradient(seed, rows, cuts):
    batch, values = case(seed)
    edges = [0, *sorted(cuts), 6]
    parts = [list(rows[start:end]) for start, end in pairwise(edges)]
    loss, gradient, metrics = run(batch, values, [[0, 1, 2, 3, 4, 5]])
    split_loss, split_gradient, split_metrics = run(batch, values, parts)
    torch.testing.assert_close(split_loss, loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(split_gradient, gradient, rtol=1e-9, atol=1e-12)
    assert split_metrics == pytest.approx(metrics, rel=1e-5)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_what_stands_outside_the_mask_is_of_no_account(garbage):
    batch, values = case(1)
    outside = ~batch.loss_mask.values
    whole = [[0, 1, 2, 3, 4, 5]]
    loss, gradient, metrics = run(batch, values, whole)
    dirty = values.with_values(values.values.masked_fill(outside, garbage))
    spoilt_loss, spoilt_gradient, spoilt_metrics = run(cases.spoil(batch, garbage), dirty, whole, fill=garbage)
    torch.testing.assert_close(spoilt_loss, loss)
    torch.testing.assert_close(spoilt_gradient, gradient)
    assert spoilt_metrics == pytest.approx(metrics)
    assert not gradient[outside].any()
    assert gradient[~outside].any()


def test_gradients_agree_with_finite_differences():
    batch, values = case(2)
    rows = (batch.old_values.values, batch.returns.values)

    def losses(leaf: torch.Tensor) -> torch.Tensor:
        return compute_value_losses(leaf, *rows, clip=0.5)[0]

    assert torch.autograd.gradcheck(losses, values.values.clone().requires_grad_())
    clipped = compute_value_losses(values.values, *rows, clip=0.5)[1]
    assert 0 < clipped.mean() < 1


def test_a_clipped_value_that_is_nearer_to_the_return_than_the_plain_one_still_learns():
    """By hand: old value 0, clip 0.5. A value of 2 with return 0 keeps its error of 2, not the clipped 0.5; a value of 2
    with return 3 has the clipped error of 2.5, which no longer depends on it."""
    value = torch.tensor([[2.0, 2.0]], requires_grad=True)
    losses, clipped = compute_value_losses(value, torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]), clip=0.5)
    losses.sum().backward()
    assert losses.tolist() == [[2.0, 2.5**2 / 2]]
    assert value.grad is not None
    assert value.grad.tolist() == [[2.0, 0.0]]
    assert clipped.tolist() == [[0.0, 1.0]]
