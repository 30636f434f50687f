"""Answers that ran into the length limit."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.types import Rollouts


def without_truncated(rollouts: Rollouts, mask: Tensor) -> tuple[Tensor, float]:
    """`mask` [B, R] without the answers that were cut at the length limit, and the share of its tokens that this took.

    Overlong filtering, Yu et al. 2025, DAPO, arXiv:2503.14476, section 3.4: their loss is masked and nothing else, so
    that their rewards still count in the baselines of the other answers.
    """
    whole = torch.tensor([reason != "length" for reason in rollouts.finish_reasons])
    kept = mask & whole[:, None]
    return kept, 1 - float(kept.sum() / mask.sum().clamp(min=1))
