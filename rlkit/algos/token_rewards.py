"""From one score for each answer to a reward for each token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlkit.algos.kl import KLEstimator, compute_kl
from rlkit.algos.masked import at_least_float32, where_mask


def place_scores(scores: Tensor, mask: Tensor) -> Tensor:
    """[B, R]: each answer's score [B] on the last token that the policy sampled, zero elsewhere.

    A row without sampled tokens gets nothing.
    """
    scores = at_least_float32(scores)
    columns = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, columns, torch.full_like(columns, -1)).amax(dim=1)
    at_last = columns[None, :] == last[:, None]
    return torch.where(at_last, scores[:, None], torch.zeros((), dtype=scores.dtype, device=scores.device))


def place_turn_scores(scores: Tensor, turn_scores: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """[B, R]: of each answer's score [B], what a turn has earned stands on the last token of that turn, the rest on the
    last token of all; zero elsewhere.

    A turn is a stretch of tokens in `mask` [B, R] with others, or nothing, behind it. `turn_scores` has one number for
    each turn of a row, or is empty for a row whose score is one of the whole answer.
    """
    scores = at_least_float32(scores)
    placed = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
    ends = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    for row, own in enumerate(turn_scores):
        if own:
            placed[row, ends[row]] = torch.tensor(own, dtype=scores.dtype, device=mask.device)
    return placed + place_scores(scores - placed.sum(dim=1), mask)


def subtract_kl(
    rewards: Tensor,
    log_probs: Tensor,
    ref_log_probs: Tensor,
    mask: Tensor,
    *,
    coefficient: float,
    estimator: KLEstimator,
) -> tuple[Tensor, Tensor]:
    """Rewards less `coefficient` times each token's KL (Ziegler et al. 2019, arXiv:1909.08593, eq. 2), and the KL; [B, R]."""
    kl = where_mask(compute_kl(log_probs, ref_log_probs, estimator), mask)
    return rewards - coefficient * kl, kl
