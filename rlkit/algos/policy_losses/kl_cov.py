"""The plain surrogate, with a penalty on the tokens that drive the entropy down most (Cui et al. 2025, KL-Cov,
arXiv:2505.22617, eq. 10, 13-14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.policy_losses.covariance import draw_lots, first_of, share_of, token_covariances
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio


@dataclass(frozen=True)
class KLCov:
    """loss = -A r; plus coefficient |log r| for the floor(fraction N) of the N tokens with the largest
    (log p - mean log p) (A - mean A).

    |log r| stands for KL(p_old || p), as in the paper's listing 1. Departures from the paper: at least one token is
    penalised, and equal covariances are told apart by the lots that the tokens draw (see `draw_lots`).
    """

    fraction: float
    coefficient: float

    def select(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """See `SelectingLoss`."""
        covariances = token_covariances(log_probs, advantages, mask)
        lots = draw_lots(old_log_probs, advantages, mask)
        return first_of(mask, share_of(mask, self.fraction), -covariances, lots)

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        selected: Tensor | None = None,
    ) -> TokenLosses:
        """See `SelectingLoss`."""
        if selected is None:
            selected = self.select(log_probs.detach(), old_log_probs, advantages, mask)
        log_ratio = clamped_log_ratio(log_probs, old_log_probs)
        penalty = torch.where(selected, self.coefficient * log_ratio.abs(), torch.zeros_like(log_ratio))
        return TokenLosses(-advantages * torch.exp(log_ratio) + penalty, {"actor/selected_fraction": selected.float()})
