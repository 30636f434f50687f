"""PPO's clipped surrogate (Schulman et al. 2017, arXiv:1707.06347, eq. 7), with asymmetric bounds (Yu et al. 2025,
DAPO, arXiv:2503.14476) and the dual clip (Ye et al. 2019, arXiv:1912.09729, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics


@dataclass(frozen=True)
class PPOClip:
    """r = exp(clamp(log p - log p_old, +-20));  loss = max(-A r, -A clip(r, 1 - low, 1 + high)), and for A < 0 at most -A * dual."""

    clip_low: float
    clip_high: float
    dual_clip: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        ratio = torch.exp(clamped_log_ratio(log_probs, old_log_probs))
        plain = -advantages * ratio
        clipped = -advantages * torch.clamp(ratio, 1 - self.clip_low, 1 + self.clip_high)
        pessimistic = torch.maximum(plain, clipped)
        capped = torch.minimum(pessimistic, -advantages * self.dual_clip)
        losses = torch.where(advantages < 0, capped, pessimistic)
        cut = clipped > plain
        metrics = {
            **clip_metrics(below=cut & (advantages < 0), above=cut & (advantages > 0)),
            "actor/dual_clip_fraction": ((pessimistic > -advantages * self.dual_clip) & (advantages < 0)).float(),
        }
        return TokenLosses(losses, metrics)
