"""What the backends minimise: the same functions for all of them, on padded views of one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.kl import KLEstimator, compute_kl
from rlkit.algos.masked import masked_sum, where_mask
from rlkit.algos.policy_losses.token_losses import PolicyLoss
from rlkit.algos.value_loss import compute_value_losses

if TYPE_CHECKING:
    from rlkit.types import Experience


@dataclass(frozen=True, eq=False)
class ObjectiveShare:
    """A micro-batch's share of the mini-batch: loss and metrics of all micro-batches add up to the whole."""

    loss: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True)
class PolicyObjective:
    """policy loss + kl_loss * KL(policy, reference) - entropy_bonus * entropy."""

    policy_loss: PolicyLoss
    aggregation: Aggregation
    kl_loss: float = 0.0
    kl_estimator: KLEstimator = "k3"
    entropy_bonus: float = 0.0

    @property
    def needs_entropy_gradient(self) -> bool:
        return self.entropy_bonus > 0

    def __call__(
        self, log_probs: Tensor, entropy: Tensor, batch: Experience, denominators: Denominators
    ) -> ObjectiveShare:
        """log_probs, entropy [B, R] of the present policy, padded as `batch`'s fields are when padded.

        `denominators` are those of the whole mini-batch that `batch` is a part of.
        """
        device = log_probs.device
        mask = batch.loss_mask.padded(False).to(device)
        old_log_probs = batch.old_log_probs.padded(0.0).to(device)
        advantages = batch.advantages.padded(0.0).to(device)
        # Padding is silenced on the way in, so that neither its value nor its gradient can be NaN.
        log_probs = where_mask(log_probs, mask)
        entropy = where_mask(entropy, mask)
        token = self.policy_loss(log_probs, where_mask(old_log_probs, mask), where_mask(advantages, mask), mask)
        losses = token.losses
        if batch.importance_weights is not None:
            losses = losses * batch.importance_weights.padded(0.0).to(device)
        loss = self.aggregation(losses, mask, denominators)
        tokens = max(denominators.tokens, 1.0)
        metrics = {name: masked_sum(value, mask) / tokens for name, value in token.metrics.items()}
        metrics["actor/policy_loss"] = loss.detach()
        metrics["actor/entropy"] = masked_sum(entropy.detach(), mask) / tokens
        if batch.ref_log_probs is not None and self.kl_loss > 0:
            ref_log_probs = where_mask(batch.ref_log_probs.padded(0.0).to(device), mask)
            kl = self.aggregation(compute_kl(log_probs, ref_log_probs, self.kl_estimator), mask, denominators)
            metrics["actor/kl_loss"] = kl.detach()
            loss = loss + self.kl_loss * kl
        if self.entropy_bonus > 0:
            loss = loss - self.entropy_bonus * self.aggregation(entropy, mask, denominators)
        metrics["actor/loss"] = loss.detach()
        return ObjectiveShare(loss, metrics)


@dataclass(frozen=True)
class ValueObjective:
    """Clipped value loss, token mean."""

    clip: float

    def __call__(self, values: Tensor, batch: Experience, denominators: Denominators) -> ObjectiveShare:
        """values [B, R] of the present critic; `batch` has returns and old_values."""
        if batch.returns is None or batch.old_values is None:
            raise ValueError("the critic's update needs returns and old values in the experience")
        mask = batch.loss_mask.padded(False).to(values.device)
        old_values = where_mask(batch.old_values.padded(0.0).to(values.device), mask)
        returns = where_mask(batch.returns.padded(0.0).to(values.device), mask)
        values = where_mask(values, mask)
        losses, clipped = compute_value_losses(values, old_values, returns, clip=self.clip)
        loss = Aggregation("token_mean")(losses, mask, denominators)
        tokens = max(denominators.tokens, 1.0)
        metrics = {
            "critic/loss": loss.detach(),
            "critic/clip_fraction": masked_sum(clipped, mask) / tokens,
            "critic/value_mean": masked_sum(values.detach(), mask) / tokens,
        }
        return ObjectiveShare(loss, metrics)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the mask: 1 is a perfect critic, 0 no better than a constant."""
    chosen_returns, errors = returns[mask].double(), (returns - values)[mask].double()
    if chosen_returns.numel() < 2:
        return 0.0
    variance = chosen_returns.var()
    if variance < torch.finfo(torch.float32).eps:
        return 0.0
    return float(1 - errors.var() / variance)
