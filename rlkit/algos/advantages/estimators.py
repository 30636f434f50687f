"""What an advantage estimator is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class AdvantageInputs:
    """What an estimator may look at.

    token_rewards [B, R]  reward of each token, the KL penalty taken off; an answer's score stands on its last token
    mask          [B, R]  bool: tokens that the policy sampled
    group_ids     [B]     answers to the same prompt share one
    old_log_probs [B, R]  nats, of the policy before the update
    values        [B, R]  the critic's predictions; None without a critic
    greedy_scores [B]     score of the greedy answer to each row's prompt; None when nobody asked for one
    part_scores   [B, K]  score of each reward function, part_weights its weight
    probability_squares [B, R]  sum over the vocabulary of the old policy's squared probabilities; None when nobody asked
    """

    token_rewards: Tensor
    mask: Tensor
    group_ids: Tensor
    old_log_probs: Tensor
    values: Tensor | None
    greedy_scores: Tensor | None = None
    part_scores: Tensor | None = None
    part_weights: tuple[float, ...] = ()
    probability_squares: Tensor | None = None


Estimates = tuple[Tensor, Tensor | None]
"""Advantages [B, R], and the critic's targets [B, R] or None; both zero outside the mask."""
Estimator = Callable[[AdvantageInputs], Estimates]
