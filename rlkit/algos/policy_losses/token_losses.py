"""What every policy loss returns, and what several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlkit.algos.kl import MAX_LOG_RATIO


@dataclass(frozen=True, eq=False)
class TokenLosses:
    """losses [B, R], differentiable in the log-probs; metrics: name -> [B, R] of per-token values to be averaged."""

    losses: Tensor
    metrics: Mapping[str, Tensor]


class PolicyLoss(Protocol):
    """A policy loss: one value for each token, aggregated by the caller."""

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """All [B, R], mask bool; outside the mask the others are zero, and losses there are of no account."""
        ...


def clamped_log_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """log(p / p_old) in float32, within +-20 so that its exponential stays finite."""
    return torch.clamp(log_probs.float() - old_log_probs.float(), -MAX_LOG_RATIO, MAX_LOG_RATIO)
