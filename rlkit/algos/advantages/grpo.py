"""Group-relative advantages (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300, section 4.1.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.masked import row_sums, where_mask

STD_EPSILON = 1e-6
"""Keeps a group of equal rewards at zero instead of 0 / 0."""


def group_statistics(scores: Tensor, group_ids: Tensor) -> tuple[Tensor, Tensor]:
    """[B] mean and standard deviation (ddof 1) of each row's group; a group of one has mean 0 and deviation 1."""
    _, group = torch.unique(group_ids, return_inverse=True)
    count = torch.bincount(group).to(scores.dtype)
    mean = torch.zeros_like(count).index_add(0, group, scores) / count
    centred = scores - mean[group]
    variance = torch.zeros_like(count).index_add(0, group, centred.square()) / (count - 1).clamp(min=1)
    alone = count == 1
    mean = torch.where(alone, torch.zeros_like(mean), mean)
    deviation = torch.where(alone, torch.ones_like(mean), variance.sqrt())
    return mean[group], deviation[group]


def compute_grpo(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = (s - mean_group) / (std_group + 1e-6), the same for every token of an answer.

    rewards [B, R] reward of each token, summed over the mask to the answer's score s; mask [B, R] bool; group_ids [B].
    Returns advantages [B, R], zero outside the mask.
    """
    scores = row_sums(rewards.float(), mask)
    mean, deviation = group_statistics(scores, group_ids)
    advantage = (scores - mean) / (deviation + STD_EPSILON)
    return where_mask(advantage[:, None].expand(mask.shape), mask)
