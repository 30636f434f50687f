"""The plain policy gradient (Chu et al. 2025, GPG, arXiv:2504.02546, eq. 4; Williams 1992)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlkit.algos.masked import at_least_float32
from rlkit.algos.policy_losses.token_losses import TokenLosses


@dataclass(frozen=True)
class GPG:
    """loss = -A log p: no ratio and no clip, so only for one optimizer step on fresh answers."""

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        return TokenLosses(-advantages * at_least_float32(log_probs), {})
