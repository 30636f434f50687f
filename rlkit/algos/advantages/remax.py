"""The greedy answer's reward as baseline (Li et al. 2023, ReMax, arXiv:2310.10505, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.reward_to_go import compute_reward_to_go
from rlkit.algos.masked import at_least_float32, where_mask


def compute_remax(rewards: Tensor, mask: Tensor, greedy_scores: Tensor) -> Tensor:
    """A_t = (undiscounted reward-to-go) - score of the greedy answer to the same prompt.

    rewards [B, R] reward of each token; mask [B, R] bool; greedy_scores [B]. Returns advantages [B, R], zero outside
    the mask.
    """
    to_go = compute_reward_to_go(rewards, mask, gamma=1.0)
    return where_mask(to_go - at_least_float32(greedy_scores)[:, None], mask)
