"""Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438, eq. 11-16)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32, masked_whiten, where_mask


def compute_gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float, whiten: bool = True
) -> tuple[Tensor, Tensor]:
    """Advantages and returns.

        delta_t = r_t + gamma * V_{t+1} - V_t
        A_t     = delta_t + gamma * lam * A_{t+1}
        return_t = A_t + V_t                          (before whitening)

    rewards [B, R] reward of each token; values [B, R] critic's prediction before each token; mask [B, R] bool: tokens
    that the policy sampled. A masked position inside a response (tool output) is stepped over: the V and A of the next
    sampled token are carried through it, so inserting such tokens changes nothing for the others.

    Returns advantages [B, R], whitened over the mask unless `whiten` is False, and returns [B, R]; both zero outside
    the mask. Departure from the paper: whitening (standard for LLMs, where reward scales vary).
    """
    rewards = where_mask(at_least_float32(rewards), mask)
    values = where_mask(at_least_float32(values), mask)
    next_value = torch.zeros_like(values[:, 0])
    next_advantage = torch.zeros_like(next_value)
    columns: list[Tensor] = []
    for t in range(values.shape[1] - 1, -1, -1):
        sampled = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        next_value = torch.where(sampled, values[:, t], next_value)
        next_advantage = torch.where(sampled, advantage, next_advantage)
        columns.append(next_advantage)
    advantages = where_mask(torch.stack(columns[::-1], dim=1), mask)
    returns = where_mask(advantages + values, mask)
    return (masked_whiten(advantages, mask) if whiten else advantages), returns
