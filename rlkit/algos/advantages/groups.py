"""Sums, means and standard deviations over the answers to one prompt."""

from __future__ import annotations

import torch
from torch import Tensor

STD_EPSILON = 1e-6
"""Keeps a group of equal rewards at zero instead of 0 / 0."""


def group_numbers(group_ids: Tensor) -> Tensor:
    """[B] group ids as 0, 1, 2, ..."""
    numbers: Tensor = torch.unique(group_ids, return_inverse=True)[1]
    return numbers


def group_sums(values: Tensor, group_ids: Tensor) -> Tensor:
    """[B] sum of `values` [B] over each row's group."""
    groups = group_numbers(group_ids)
    sums = torch.zeros(int(groups.max()) + 1, dtype=values.dtype, device=values.device).index_add(0, groups, values)
    return sums[groups]


def group_sizes(group_ids: Tensor) -> Tensor:
    """[B] rows in each row's group."""
    groups = group_numbers(group_ids)
    return torch.bincount(groups)[groups]


def group_statistics(scores: Tensor, group_ids: Tensor) -> tuple[Tensor, Tensor]:
    """[B] mean and standard deviation (ddof 1) of each row's group; a group of one has mean 0 and deviation 1.

    In the type of `scores`. Summed in float64: in float32 the mean of equal scores is one rounding away from them, which
    a division by the deviation (another such rounding) makes as large as a real advantage.
    """
    sizes, exact = group_sizes(group_ids), scores.double()
    mean = group_sums(exact, group_ids) / sizes
    variance = group_sums((exact - mean).square(), group_ids) / (sizes - 1).clamp(min=1)
    alone = sizes == 1
    mean, deviation = mean.masked_fill(alone, 0.0), variance.sqrt().masked_fill(alone, 1.0)
    return mean.to(scores.dtype), deviation.to(scores.dtype)
