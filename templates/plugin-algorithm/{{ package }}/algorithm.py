"""The estimator and the loss, as functions of tensors: B answers of up to R tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs
from rlkit.algos.policy_losses.token_losses import TokenLosses

from .options import BoundedLossOptions


def less_the_median(inputs: AdvantageInputs) -> Tensor:
    """[B, R]: the score less the median of the answers to the same prompt, on every token of an answer."""
    # Not a product with the mask: padding may hold NaN.
    scores = torch.where(inputs.mask, inputs.token_rewards, 0.0).sum(dim=1)
    groups, number = inputs.group_ids.unique(return_inverse=True)
    medians = torch.stack([scores[inputs.group_ids == group].median() for group in groups])
    return (scores - medians[number])[:, None].expand(inputs.mask.shape)


class BoundedLoss:
    """-A log p where |p / p_old - 1| <= bound, nothing elsewhere."""

    def __init__(self, options: BoundedLossOptions) -> None:
        self.options = options

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """All [B, R]. One loss for each token: rlkit adds them up, in whatever micro-batches they come."""
        ratio = torch.exp((log_probs - old_log_probs).detach().clamp(-20, 20))
        inside = (ratio - 1).abs() <= self.options.bound
        losses = torch.where(inside, -advantages * log_probs, 0.0)
        return TokenLosses(losses, {"actor/clip_fraction": (~inside).float()})
