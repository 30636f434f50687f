"""Clipping by the ratio of whole answers instead of tokens (Zheng et al. 2025, GSPO, arXiv:2507.18071, eq. 5-7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32, row_means
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics

MAX_SEQUENCE_LOG_RATIO = 10.0
"""A mean log-ratio of 10 is far beyond any clip bound."""


@dataclass(frozen=True)
class GSPO:
    """s_t = exp(sg(mean_t log(p / p_old)) + log p_t - sg(log p_t));  loss = max(-A s, -A clip(s, 1 - low, 1 + high)).

    Every token of an answer has the answer's ratio as value and its own log-prob's gradient (GSPO-token, eq. 13-14).
    Usually aggregated by seq_mean_token_mean, and with bounds a hundred times narrower than PPO's.
    """

    clip_low: float
    clip_high: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        log_ratio = clamped_log_ratio(log_probs, old_log_probs)
        sequence = row_means(log_ratio, mask).detach()[:, None]
        own_gradient = at_least_float32(log_probs) - at_least_float32(log_probs).detach()
        ratio = torch.exp(torch.clamp(sequence + own_gradient, max=MAX_SEQUENCE_LOG_RATIO))
        plain = -advantages * ratio
        clipped = -advantages * torch.clamp(ratio, 1 - self.clip_low, 1 + self.clip_high)
        cut = clipped > plain
        metrics = clip_metrics(below=cut & (advantages < 0), above=cut & (advantages > 0))
        return TokenLosses(torch.maximum(plain, clipped), metrics)
