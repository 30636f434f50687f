"""Group-relative advantages (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300, section 4.1.2)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.groups import STD_EPSILON, group_statistics
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_grpo(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = (s - mean_group) / (std_group + 1e-6), the same for every token of an answer.

    rewards [B, R] reward of each token, summed over the mask to the answer's score s; mask [B, R] bool; group_ids [B].
    Returns advantages [B, R], zero outside the mask. A group of one keeps its score.
    """
    scores = row_sums(at_least_float32(rewards), mask)
    mean, deviation = group_statistics(scores, group_ids)
    return spread((scores - mean) / (deviation + STD_EPSILON), mask)
