"""Group policy gradient: no division by the deviation, a rescaling for groups without signal
(Chu et al. 2025, GPG, arXiv:2504.02546, eq. 6)."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.advantages.groups import group_statistics
from rlkit.algos.masked import at_least_float32, row_sums, spread


def compute_gpg(rewards: Tensor, mask: Tensor, group_ids: Tensor) -> Tensor:
    """A = alpha (s - mean_group), alpha = B / number of answers with a score other than 0 (at least 1).

    Arguments and result as `compute_grpo`.
    """
    scores = row_sums(at_least_float32(rewards), mask)
    mean, _ = group_statistics(scores, group_ids)
    alpha = len(scores) / scores.count_nonzero().clamp(min=1)
    return spread(alpha * (scores - mean), mask)
