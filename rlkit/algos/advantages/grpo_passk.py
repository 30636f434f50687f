"""Only the best answer of a group learns, by how far it is ahead: what pass@k rewards
(Tang et al. 2025, arXiv:2503.19595)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.advantages.groups import STD_EPSILON, group_numbers, group_statistics
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_grpo_passk(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = (best - second) / (std_group + 1e-6) for the group's best answer (the first of equals), 0 for the others.

    Arguments and result as `compute_grpo`. A group of one has no second and learns nothing.
    """
    scores = row_sums(at_least_float32(rewards), mask)
    _, deviation = group_statistics(scores, group_ids)
    groups = group_numbers(group_ids)
    advantages = torch.zeros_like(scores)
    for group in range(int(groups.max()) + 1):
        rows = (groups == group).nonzero().squeeze(1)
        if len(rows) < 2:
            continue
        ordered = torch.sort(scores[rows], descending=True, stable=True)
        best = rows[ordered.indices[0]]
        advantages[best] = (ordered.values[0] - ordered.values[1]) / (deviation[best] + STD_EPSILON)
    return spread(advantages, mask)
