"""What the backends minimise: the same functions for all of them, on padded views of one micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.correction_in_update import CorrectionInUpdate
from rlkit.algos.kl import KLEstimator, compute_kl
from rlkit.algos.masked import masked_sum, where_mask
from rlkit.algos.policy_losses.token_losses import PolicyLoss, SelectingLoss, TokenLosses, clamped_log_ratio
from rlkit.algos.value_loss import compute_value_losses
from rlkit.types.ragged import Ragged

if TYPE_CHECKING:
    from rlkit.types import Experience


@dataclass(frozen=True, eq=False)
class ObjectiveShare:
    """A micro-batch's share of the mini-batch: loss and metrics of all micro-batches add up to the whole."""

    loss: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True)
class PolicyObjective:
    """policy loss + kl_loss * KL(policy, reference) - entropy_bonus * entropy.

    correction: of the policy loss, by the ratio to the old probabilities, where those are the engine's.
    """

    policy_loss: PolicyLoss
    aggregation: Aggregation
    kl_loss: float = 0.0
    kl_estimator: KLEstimator = "k3"
    entropy_bonus: float = 0.0
    correction: CorrectionInUpdate | None = None

    @property
    def needs_entropy_gradient(self) -> bool:
        return self.entropy_bonus > 0

    def prepare(self, mini_batch: Experience, compute_log_probs: Callable[[], Ragged]) -> Experience:
        """The whole mini-batch, with `selected` if the policy loss chooses tokens; to be called before it is split.

        One that has `selected` already comes back as it is: whoever spreads it over several processes prepares it before.
        `compute_log_probs` gives the present policy's log-probs of the responses, on any device, without gradient. It is
        called for such a loss only, since it costs a forward pass.
        """
        if mini_batch.selected is not None or not isinstance(self.policy_loss, SelectingLoss):
            return mini_batch
        lengths = mini_batch.loss_mask.lengths
        mask = mini_batch.loss_mask.padded(False)
        log_probs, old_log_probs, advantages = (
            where_mask(ragged.padded(0.0).to(mask.device), mask)
            for ragged in (compute_log_probs(), mini_batch.old_log_probs, mini_batch.advantages)
        )
        selected = self.policy_loss.select(log_probs, old_log_probs, advantages, mask)
        return replace(mini_batch, selected=Ragged.from_padded(selected, lengths))

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
        old_log_probs = where_mask(old_log_probs, mask)
        entropy = where_mask(entropy, mask)
        corrected = None if self.correction is None else self.correction(log_probs, old_log_probs, mask)
        kept = mask if corrected is None else corrected.kept
        token = self._token_losses(
            where_mask(log_probs, kept),
            where_mask(old_log_probs, kept),
            where_mask(advantages, kept),
            kept,
            batch.selected,
        )
        losses = where_mask(token.losses, kept)
        if batch.importance_weights is not None:
            losses = losses * batch.importance_weights.padded(0.0).to(device)
        if corrected is not None and corrected.weights is not None:
            losses = losses * corrected.weights
        loss = self.aggregation(losses, mask, denominators)
        tokens = max(denominators.tokens, 1.0)
        measured = {**token.metrics, **({} if corrected is None else corrected.metrics)}
        metrics = {name: masked_sum(value, mask) / tokens for name, value in measured.items()}
        metrics["actor/policy_loss"] = loss.detach()
        metrics["actor/entropy"] = masked_sum(entropy.detach(), mask) / tokens
        metrics["actor/kl_to_old"] = masked_sum(-clamped_log_ratio(log_probs.detach(), old_log_probs), mask) / tokens
        if batch.ref_log_probs is not None and self.kl_loss > 0:
            ref_log_probs = where_mask(batch.ref_log_probs.padded(0.0).to(device), mask)
            kl = self.aggregation(compute_kl(log_probs, ref_log_probs, self.kl_estimator), mask, denominators)
            metrics["actor/kl_loss"] = kl.detach()
            loss = loss + self.kl_loss * kl
        if self.entropy_bonus > 0:
            loss = loss - self.entropy_bonus * self.aggregation(entropy, mask, denominators)
        metrics["actor/loss"] = loss.detach()
        return ObjectiveShare(loss, metrics)

    def _token_losses(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, selected: Ragged | None
    ) -> TokenLosses:
        if not isinstance(self.policy_loss, SelectingLoss):
            return self.policy_loss(log_probs, old_log_probs, advantages, mask)
        if selected is None:
            raise ValueError("this policy loss chooses tokens of the whole mini-batch: call prepare before it is split")
        chosen = selected.padded(False).to(mask.device)
        return self.policy_loss(log_probs, old_log_probs, advantages, mask, chosen)


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
