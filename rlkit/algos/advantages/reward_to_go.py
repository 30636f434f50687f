"""Sums of the rewards that are still to come."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32, where_mask


def compute_reward_to_go(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """G_t = r_t + gamma G_{t+1} over the sampled tokens; [B, R], zero outside the mask.

    rewards [B, R]; mask [B, R] bool. Positions that were not sampled (tool output) are stepped over: they neither add
    nor discount.
    """
    rewards = where_mask(at_least_float32(rewards), mask)
    running = torch.zeros_like(rewards[:, 0])
    columns: list[Tensor] = []
    for t in range(rewards.shape[1] - 1, -1, -1):
        running = torch.where(mask[:, t], rewards[:, t] + gamma * running, running)
        columns.append(running)
    return where_mask(torch.stack(columns[::-1], dim=1), mask)
