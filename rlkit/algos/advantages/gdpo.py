"""Groups normalised reward by reward, so that one part's spread cannot drown another's
(Liu et al. 2026, GDPO, arXiv:2601.05242)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlkit.algos.advantages.groups import STD_EPSILON, group_statistics
from rlkit.algos.masked import at_least_float32, masked_whiten, spread


def compute_gdpo(part_scores: Tensor, mask: Tensor, group_ids: Tensor, weights: Sequence[float]) -> Tensor:
    """A = whiten(sum_k weight_k (s_k - mean_group_k) / (std_group_k + 1e-6)), the same for every token of an answer.

    part_scores [B, K] score of each reward part; weights K; mask [B, R] bool; group_ids [B]. Returns advantages [B, R],
    whitened over all tokens of the batch, zero outside the mask. Raises `ValueError` when weights and parts differ in number.
    """
    if part_scores.shape[1] != len(weights):
        raise ValueError(f"{part_scores.shape[1]} reward parts, but {len(weights)} weights")
    scores = at_least_float32(part_scores)
    total = torch.zeros_like(scores[:, 0])
    for part, weight in zip(scores.T, weights, strict=True):
        mean, deviation = group_statistics(part, group_ids)
        total = total + weight * (part - mean) / (deviation + STD_EPSILON)
    return masked_whiten(spread(total, mask), mask)
