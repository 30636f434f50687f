"""A smooth gate in place of the clip (Gao et al. 2025, SAPO, arXiv:2511.20347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio


@dataclass(frozen=True)
class SAPO:
    """loss = -A sigmoid(tau (r - 1)) 4 / tau, with tau_positive where A > 0 and tau_negative elsewhere.

    At r = 1 the gradient is that of the plain surrogate; it fades as r leaves 1, faster for larger tau.
    """

    tau_positive: float = 1.0
    tau_negative: float = 1.05

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        log_ratio = clamped_log_ratio(log_probs, old_log_probs)
        positive = torch.full_like(log_ratio, self.tau_positive)
        tau = torch.where(advantages > 0, positive, torch.full_like(log_ratio, self.tau_negative))
        gate = torch.sigmoid(tau * (torch.exp(log_ratio) - 1)) * 4 / tau
        return TokenLosses(-advantages * gate, {})
