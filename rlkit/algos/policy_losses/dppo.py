"""A trust region of probabilities instead of ratios: rare tokens may move by large factors, likely ones may not move far
(Qi et al. 2026, DPPO, arXiv:2602.04879, eq. 12).

loss = -A r, and 0 where the step would lead further away: D > threshold and either A > 0, r > 1 or A < 0, r < 1.

D is the divergence between the old distribution and the present one, both reduced to the sampled token against all
others; of the paper's two approximations this is the one that needs nothing but log-probs. The paper measures from the
policy of the engine: for that, take its log-probs for the old ones (rollout_correction.bypass).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics

SMALLEST_REST = 1e-8
"""A log-prob rounded to 0 leaves nothing for the other tokens; an infinite divergence would be the rounding's, not theirs."""


@dataclass(frozen=True)
class DPPOTotalVariation:
    """D = |p_old - p| (eq. 13)."""

    threshold: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        present, old = at_least_float32(log_probs.detach()), at_least_float32(old_log_probs)
        divergence = (torch.exp(old) - torch.exp(present)).abs()
        return _trusted(log_probs, old_log_probs, advantages, divergence > self.threshold)


@dataclass(frozen=True)
class DPPOKL:
    """D = p_old log(p_old / p) + (1 - p_old) log((1 - p_old) / (1 - p)), in nats (eq. 14)."""

    threshold: float

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`."""
        present, old = at_least_float32(log_probs.detach()), at_least_float32(old_log_probs)
        # 1 - p without the cancellation that would leave no digit of it where p is nearly 1.
        rest, old_rest = (torch.clamp(-torch.expm1(value), min=SMALLEST_REST) for value in (present, old))
        divergence = torch.exp(old) * (old - present) + old_rest * torch.log(old_rest / rest)
        return _trusted(log_probs, old_log_probs, advantages, divergence > self.threshold)


def _trusted(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, far: Tensor) -> TokenLosses:
    log_ratio = clamped_log_ratio(log_probs, old_log_probs)
    blocked = far & (advantages * log_ratio.detach() > 0)
    losses = torch.where(blocked, torch.zeros_like(log_ratio), -advantages * torch.exp(log_ratio))
    return TokenLosses(losses, clip_metrics(below=blocked & (advantages < 0), above=blocked & (advantages > 0)))
