"""Clipped importance weights instead of clipped updates: every token keeps a gradient (MiniMax 2025, CISPO,
arXiv:2506.13585, eq. 4-5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics


@dataclass(frozen=True)
class CISPO:
    """loss = -sg(clip(r, 1 - low, 1 + high)) A log p."""

    clip_low: float
    clip_high: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        log_ratio = clamped_log_ratio(log_probs, old_log_probs)
        ratio = torch.exp(log_ratio).detach()
        weight = torch.clamp(ratio, 1 - self.clip_low, 1 + self.clip_high)
        metrics = clip_metrics(below=ratio < weight, above=ratio > weight)
        return TokenLosses(-weight * advantages * at_least_float32(log_probs), metrics)
