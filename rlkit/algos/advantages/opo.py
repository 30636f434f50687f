"""The baseline of least variance when longer answers have larger gradients (Hao et al. 2025, OPO, arXiv:2505.23585)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.groups import group_sizes, group_sums
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_opo(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = s - sum_group(length s) / sum_group(length), the same for every token of an answer.

    Arguments and result as `compute_grpo`; length counts sampled tokens. A group of one keeps its score.
    """
    scores = row_sums(at_least_float32(rewards), mask)
    lengths = mask.sum(dim=1).to(scores.dtype)
    baseline = group_sums(lengths * scores, group_ids) / group_sums(lengths, group_ids).clamp(min=1)
    alone = group_sizes(group_ids) == 1
    return spread(scores - baseline.masked_fill(alone, 0.0), mask)
