"""Leave-one-out baseline (Ahmadian et al. 2024, arXiv:2402.14740, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.advantages.groups import group_sizes, group_sums
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_rloo(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = s - mean of the group's other scores = n / (n - 1) (s - mean_group), the same for every token of an answer.

    Arguments and result as `compute_grpo`. A group of one keeps its score.
    """
    scores = row_sums(at_least_float32(rewards), mask)
    sizes = group_sizes(group_ids)
    others = (group_sums(scores, group_ids) - scores) / (sizes - 1).clamp(min=1)
    return spread(scores - torch.where(sizes > 1, others, torch.zeros_like(others)), mask)
