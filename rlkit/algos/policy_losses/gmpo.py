"""The geometric mean of token ratios, each clipped, which outliers cannot pull away (Zhao et al. 2025, GMPO,
arXiv:2507.20673, eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.masked import row_means
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics


@dataclass(frozen=True)
class GMPO:
    """loss of an answer = -mean(A) exp(mean_t(sign(A) min(sign(A) d_t, sign(A) clip(d_t, -low, high)))), d = log(p / p_old).

    The bounds are on the log-ratio. Every token of an answer carries the answer's loss, so that a mean over its tokens
    is that loss again; aggregate with seq_mean_token_mean.
    """

    clip_low: float
    clip_high: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        log_ratio = clamped_log_ratio(log_probs, old_log_probs)
        sign = torch.sign(advantages)
        clipped = torch.clamp(log_ratio, -self.clip_low, self.clip_high)
        chosen = sign * torch.minimum(sign * log_ratio, sign * clipped)
        ratio = torch.exp(row_means(chosen, mask))
        losses = (-row_means(advantages, mask) * ratio)[:, None].expand(mask.shape)
        cut = sign * log_ratio > sign * clipped
        return TokenLosses(losses, clip_metrics(below=cut & (sign < 0), above=cut & (sign > 0)))
