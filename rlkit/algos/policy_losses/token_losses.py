"""What every policy loss returns, and what several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rlkit.algos.kl import MAX_LOG_RATIO
from rlkit.algos.masked import at_least_float32


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


@runtime_checkable
class SelectingLoss(PolicyLoss, Protocol):
    """A policy loss that treats some tokens differently, chosen by how they compare with all others of the mini-batch.

    A micro-batch does not show that, so the tokens are chosen once, before the mini-batch is split.
    """

    def select(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """bool [B, R], False outside the mask: the chosen tokens of a whole mini-batch.

        The arguments are those of the call, without gradient.
        """
        ...

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        selected: Tensor | None = None,
    ) -> TokenLosses:
        """`selected` [B, R] is what `select` chose of these tokens; None if they are a whole mini-batch themselves."""
        ...


def clip_metrics(below: Tensor, above: Tensor) -> dict[str, Tensor]:
    """`actor/clip_fraction`, and its two sides: tokens stopped at the lower and at the upper bound, bool [B, R] each."""
    return {
        "actor/clip_fraction": (below | above).float(),
        "actor/clip_fraction_low": below.float(),
        "actor/clip_fraction_high": above.float(),
    }


def clamped_log_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """log(p / p_old) within +-20 so that its exponential stays finite."""
    difference = at_least_float32(log_probs) - at_least_float32(old_log_probs)
    return torch.clamp(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO)
