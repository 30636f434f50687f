"""The critic's clipped regression loss (Schulman et al. 2017, as in OpenAI baselines' PPO2)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32


def compute_value_losses(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> tuple[Tensor, Tensor]:
    """Loss and clip indicator of each token, [B, R] each.

    loss = 1/2 max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)

    values, old_values, returns [B, R]; differentiable in `values`.
    """
    values = at_least_float32(values)
    clipped = torch.clamp(values, old_values - clip, old_values + clip)
    plain_error = (values - returns).square()
    clipped_error = (clipped - returns).square()
    return torch.maximum(plain_error, clipped_error) / 2, (clipped_error > plain_error).float()
