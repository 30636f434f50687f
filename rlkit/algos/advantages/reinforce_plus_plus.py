"""REINFORCE with a whitened return, and with a group baseline before (Hu et al. 2025, REINFORCE++, arXiv:2501.03262)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.groups import group_statistics
from rlkit.algos.advantages.reward_to_go import compute_reward_to_go
from rlkit.algos.masked import at_least_float32, masked_whiten, row_sums, spread


def compute_reinforce_plus_plus(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """Discounted reward-to-go, whitened over all tokens of the batch.

    rewards [B, R] reward of each token; mask [B, R] bool. Returns advantages [B, R], zero outside the mask.
    """
    return masked_whiten(compute_reward_to_go(rewards, mask, gamma=gamma), mask)


def compute_reinforce_plus_plus_baseline(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """s - mean_group on every token, whitened over all tokens of the batch. Arguments and result as `compute_grpo`."""
    scores = row_sums(at_least_float32(rewards), mask)
    mean, _ = group_statistics(scores, group_ids)
    return masked_whiten(spread(scores - mean, mask), mask)
