"""Correcting for an engine whose probabilities differ from the trainer's: other kernels, other precision, older weights.

    log rho_t = log pi_train - log pi_rollout, clamped to +-20
    weights     truncated or zeroed importance ratios, of tokens or of whole answers; they scale the loss
    rejection   tokens or answers whose divergence leaves its bounds lose their place in the loss mask

Truncated importance sampling: Espeholt et al. 2018, IMPALA, arXiv:1802.01561, and Yao et al. 2025, "Your efficient RL
framework secretly brings you off-policy RL training". Zero outside the bounds: IcePop (Ling team 2025, arXiv:2510.18855).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlkit.algos.kl import MAX_LOG_RATIO
from rlkit.algos.masked import at_least_float32, masked_mean, row_means, row_sums, where_mask

WeightLevel = Literal["token", "sequence"]
RejectionLevel = Literal["token", "seq_sum", "seq_mean", "seq_max"]
Divergence = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class ImportanceWeights:
    """level: whose ratio; high: weights above it are cut to it; zero_outside: weights outside [low, high] become 0
    instead (IcePop); normalise: divide by the mean, of tokens or of answers."""

    level: WeightLevel
    high: float
    low: float = 0.0
    zero_outside: bool = False
    normalise: bool = False

    def __call__(self, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """Weights [B, R], no gradient, zero outside the mask; log_ratio from `rollout_log_ratio`."""
        ratio = log_ratio if self.level == "token" else _of_answers(row_sums(log_ratio, mask), mask)
        weights = where_mask(torch.exp(ratio), mask)
        if self.zero_outside:
            inside = (weights >= self.low) & (weights <= self.high)
            weights = torch.where(inside, weights, torch.zeros_like(weights))
        else:
            weights = weights.clamp(max=self.high)
        if not self.normalise:
            return weights
        mean = masked_mean(weights, mask) if self.level == "token" else row_means(weights, mask)[mask.any(dim=1)].mean()
        return weights / mean.clamp(min=torch.finfo(weights.dtype).tiny)


@dataclass(frozen=True)
class Rejection:
    """Keeps what has low <= exp(-k1) <= high (a ratio), or k2, k3 <= high (nats).

    level token judges tokens; seq_sum, seq_mean and seq_max judge whole answers by the sum, mean or largest of theirs.
    """

    level: RejectionLevel
    divergence: Divergence
    high: float
    low: float = 0.0

    def __call__(self, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """bool [B, R]: what of the mask is kept."""
        value = _of_level(self.level, _divergence(self.divergence, log_ratio), mask)
        if self.divergence == "k1":
            ratio = torch.exp(-value)
            return mask & (ratio >= self.low) & (ratio <= self.high)
        return mask & (value <= self.high)


def rollout_log_ratio(log_probs: Tensor, rollout_log_probs: Tensor, mask: Tensor) -> Tensor:
    """[B, R] log rho, zero outside the mask."""
    difference = at_least_float32(log_probs.detach()) - at_least_float32(rollout_log_probs)
    return where_mask(torch.clamp(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO), mask)


def apply_rejections(log_ratio: Tensor, mask: Tensor, rules: Sequence[Rejection]) -> Tensor:
    """bool [B, R]: what every rule keeps; each rule judges the whole mask, so their order does not matter."""
    kept = mask
    for rule in rules:
        kept = kept & rule(log_ratio, mask)
    return kept


def correction_metrics(
    log_probs: Tensor, rollout_log_probs: Tensor, mask: Tensor, weights: Tensor | None, kept: Tensor
) -> dict[str, float]:
    """How far engine and trainer are apart: `rollout/*`.

    kl and kl_k3 are of the engine from the trainer, chi2 of tokens and of answers; effective_samples is the share of
    the tokens that the weights leave; correlation is Pearson's between the two probabilities of each token.
    """
    log_ratio = rollout_log_ratio(log_probs, rollout_log_probs, mask)
    answers = mask.any(dim=1)
    trainer_nll = -row_means(at_least_float32(log_probs), mask)[answers]
    engine_nll = -row_means(at_least_float32(rollout_log_probs), mask)[answers]
    sums = torch.clamp(row_sums(log_ratio, mask), -MAX_LOG_RATIO, MAX_LOG_RATIO)[answers]
    metrics = {
        "rollout/kl": masked_mean(-log_ratio, mask),
        "rollout/kl_k3": masked_mean(_divergence("k3", log_ratio), mask),
        "rollout/perplexity": torch.exp(engine_nll).mean(),
        "rollout/trainer_perplexity": torch.exp(trainer_nll).mean(),
        "rollout/chi2_tokens": masked_mean(torch.exp(2 * log_ratio), mask) - 1,
        "rollout/chi2_answers": torch.exp(2 * sums).mean() - 1,
        "rollout/correlation": _correlation(
            at_least_float32(log_probs[mask]).exp(), at_least_float32(rollout_log_probs[mask]).exp()
        ),
        "rollout/rejected_fraction": 1 - kept.sum() / mask.sum().clamp(min=1),
    }
    if weights is not None:
        chosen = weights[mask]
        metrics["rollout/weight_mean"] = chosen.mean()
        metrics["rollout/weight_max"] = chosen.max()
        metrics["rollout/effective_samples"] = chosen.mean().square() / chosen.square().mean().clamp(min=1e-12)
    return {name: float(value) for name, value in metrics.items()}


def _divergence(name: Divergence, log_ratio: Tensor) -> Tensor:
    match name:
        case "k1":
            return -log_ratio
        case "k2":
            return log_ratio.square() / 2
        case "k3":
            return torch.exp(log_ratio) - 1 - log_ratio


def _of_level(level: RejectionLevel, values: Tensor, mask: Tensor) -> Tensor:
    match level:
        case "token":
            return values
        case "seq_sum":
            return row_sums(values, mask)[:, None]
        case "seq_mean":
            return row_means(values, mask)[:, None]
        case "seq_max":
            return values.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)


def _of_answers(sums: Tensor, mask: Tensor) -> Tensor:
    return torch.clamp(sums, -MAX_LOG_RATIO, MAX_LOG_RATIO)[:, None].expand(mask.shape)


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's; 1 where nothing varies."""
    left, right = left - left.mean(), right - right.mean()
    scale = left.norm() * right.norm()
    return torch.where(scale > 0, (left * right).sum() / scale.clamp(min=1e-20), torch.ones_like(scale))
