"""What every policy loss must do: one loss for each token, finite, pointing the right way, the same however it is split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.policy_losses.token_losses import PolicyLoss
    from rlkit.testing import ContractContext


def gives_one_finite_loss_for_each_token(context: ContractContext) -> None:
    batch = _batch()
    losses, gradient = _run(context, batch)
    assert losses.isfinite().all(), "not all losses are finite"
    assert gradient.isfinite().all(), "not all gradients are finite"


def stays_finite_when_the_policy_has_moved_far(context: ContractContext) -> None:
    import torch

    mask = torch.ones(2, 3, dtype=torch.bool)
    log_probs = torch.tensor([[-300.0, 0.0, -1.0], [0.0, -300.0, -1.0]])
    advantages = torch.tensor([[1.0], [-1.0]]).expand(2, 3)
    losses, gradient = _run(context, _Batch(log_probs, log_probs.flip(0), advantages, mask))
    assert losses.isfinite().all() and gradient.isfinite().all(), "log-ratios of 300 must not overflow: clamp them"


def makes_good_answers_likelier_and_bad_ones_less(context: ContractContext) -> None:
    """At the policy that answered, a step down the gradient must be a step up in what is rewarded."""
    batch = _batch()
    _, gradient = _run(context, _Batch(batch.old_log_probs, batch.old_log_probs, batch.advantages, batch.mask))
    assert (gradient * batch.advantages)[batch.mask].sum() < 0, "the gradient has the wrong sign"


def tokens_that_were_not_sampled_have_no_part_in_it(context: ContractContext) -> None:
    """The caller has set them to zero, and they are more or fewer in other micro-batches."""
    import torch

    batch = _batch()
    losses, gradient = _run(context, batch)
    wide = _Batch(*(torch.nn.functional.pad(tensor, (0, 2)) for tensor in batch.tensors()))
    wide_losses, wide_gradient = _run(context, wide)
    _same(losses, wide_losses[:, : losses.shape[1]], "padding")
    _same(gradient, wide_gradient[:, : losses.shape[1]], "padding")
    assert not gradient[~batch.mask].any(), "tokens outside the mask must have no gradient"


def the_split_into_micro_batches_is_of_no_account(context: ContractContext) -> None:
    batch = _batch()
    losses, gradient = _run(context, batch)
    selected = _selected(_loss(context), batch)
    for rows in ([2, 0], [1]):
        part = _Batch(*(tensor[rows] for tensor in batch.tensors()))
        chosen = None if selected is None else selected[rows]
        found, found_gradient = _run(context, part, selected=chosen)
        _same(losses[rows], found, "the other rows of the batch")
        _same(gradient[rows], found_gradient, "the other rows of the batch")


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    gives_one_finite_loss_for_each_token,
    stays_finite_when_the_policy_has_moved_far,
    makes_good_answers_likelier_and_bad_ones_less,
    tokens_that_were_not_sampled_have_no_part_in_it,
    the_split_into_micro_batches_is_of_no_account,
)


@dataclass(frozen=True, eq=False)
class _Batch:
    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    mask: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.log_probs, self.old_log_probs, self.advantages, self.mask


def _batch() -> _Batch:
    """Three answers of 3, 3 and 1 sampled tokens, one with tool output inside; zero outside the mask."""
    import torch

    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(mask.shape, generator=generator) - 0.1
    new = old + 0.1 * torch.randn(mask.shape, generator=generator)
    advantages = torch.tensor([[1.0], [-0.5], [0.25]]).expand(mask.shape)
    return _Batch(torch.where(mask, new, 0.0), torch.where(mask, old, 0.0), torch.where(mask, advantages, 0.0), mask)


def _loss(context: ContractContext) -> PolicyLoss:
    from rlkit.algos.user_functions import make_policy_loss

    return make_policy_loss(context.plugin, context.options, where="options")


def _selected(loss: PolicyLoss, batch: _Batch) -> Tensor | None:
    from rlkit.algos.policy_losses.token_losses import SelectingLoss

    return loss.select(*batch.tensors()) if isinstance(loss, SelectingLoss) else None


def _run(context: ContractContext, batch: _Batch, *, selected: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Losses, zero outside the mask, and the gradient of each answer's mean, summed over the answers."""
    import torch

    loss = _loss(context)
    log_probs = batch.log_probs.clone().requires_grad_()
    rest = batch.tensors()[1:]
    chosen = _selected(loss, batch) if selected is None else selected
    token = loss(log_probs, *rest) if chosen is None else loss(log_probs, *rest, chosen)  # type: ignore[call-arg]
    losses = torch.where(batch.mask, token.losses, 0.0)
    # The mean over an answer is what every loss can be aggregated by.
    (losses.sum(dim=1) / batch.mask.sum(dim=1)).sum().backward()  # type: ignore[no-untyped-call]
    assert log_probs.grad is not None, "the losses do not depend on the log-probs"
    return losses.detach(), log_probs.grad


def _same(expected: Tensor, found: Tensor, what: str) -> None:
    assert expected.allclose(found, rtol=1e-4, atol=1e-6), f"{what} changed the numbers"
