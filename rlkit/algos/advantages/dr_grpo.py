"""GRPO without the division by the group's deviation, which favours prompts that are nearly always or never solved
(Liu et al. 2025, Dr. GRPO, arXiv:2503.20783, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.groups import group_statistics
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_dr_grpo(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = s - mean_group, the same for every token of an answer. Arguments and result as `compute_grpo`."""
    scores = row_sums(at_least_float32(rewards), mask)
    mean, _ = group_statistics(scores, group_ids)
    return spread(scores - mean, mask)
