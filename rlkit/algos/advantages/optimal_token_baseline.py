"""A baseline for each token, weighing answers by the gradient noise they have gathered so far
(Li et al. 2026, "The Optimal Token Baseline", arXiv:2602.07078)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.advantages.groups import group_numbers
from rlkit.algos.advantages.reward_to_go import compute_reward_to_go
from rlkit.algos.masked import at_least_float32, where_mask

WEIGHT_FLOOR = 1e-8
"""Added to every weight: where the policy was certain of all tokens so far, the baseline is the plain mean, not 0 / 0."""


def compute_optimal_token_baseline(
    rewards: Tensor, mask: Tensor, group_ids: Tensor, old_log_probs: Tensor, probability_squares: Tensor
) -> Tensor:
    """A_t = G_t - B_t, with the group's answers i weighted by the accumulated squared norm of their logit gradients.

        B_t = sum_i G_t^i W_t^i / sum_i W_t^i
        W_t = sum_{j <= t} (1 - 2 pi(y_j) + sum_v pi_j(v)^2)
        G_t = undiscounted reward-to-go

    t counts the sampled tokens of an answer, so tool output inside it shifts nothing; the sums go over the answers that
    have a t-th token.

    rewards [B, R] reward of each token; mask [B, R] bool; group_ids [B]; old_log_probs [B, R] nats, of the policy that
    is to be updated; probability_squares [B, R] sum of its squared probabilities over the vocabulary, for each token.
    Returns advantages [B, R], zero outside the mask. A group of one keeps its reward-to-go.

    Departures from the paper: 1e-8 is added to every W_t, so that equal rewards always cancel. Beyond the end of the
    second longest answer, where B_t would be the longest one's own return and teach nothing, the last baseline that two
    answers or more had a say in stays. Importance weights of a rollout correction do not enter W_t.
    """
    to_go = compute_reward_to_go(rewards, mask, gamma=1.0)
    noise = 1 - 2 * torch.exp(at_least_float32(old_log_probs)) + at_least_float32(probability_squares)
    noise = where_mask(noise, mask).clamp(min=0)  # rounding takes certain tokens below zero
    sampled_first = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
    sampled = mask.gather(1, sampled_first)
    returns = to_go.gather(1, sampled_first)
    weights = where_mask(noise.gather(1, sampled_first).cumsum(dim=1) + WEIGHT_FLOOR, sampled)
    baselines = _group_baselines(returns, weights, sampled, group_numbers(group_ids))
    in_place = torch.zeros_like(baselines).scatter(1, sampled_first, baselines)
    return where_mask(to_go - in_place, mask)


def _group_baselines(returns: Tensor, weights: Tensor, sampled: Tensor, groups: Tensor) -> Tensor:
    """[B, R] weighted mean over each row's group, column by column; the answers are flush left."""

    def sum_groups(values: Tensor) -> Tensor:
        sums = values.new_zeros(int(groups.max()) + 1, values.shape[1])
        return sums.index_add(0, groups, values)

    totals = sum_groups(weights)
    baselines = sum_groups(returns * weights) / totals.clamp(min=torch.finfo(totals.dtype).tiny)
    shared = (sum_groups(sampled.to(torch.int64)) > 1).sum(dim=1, keepdim=True)  # columns with two answers or more
    columns = torch.arange(sampled.shape[1], device=sampled.device)
    source = torch.minimum(columns[None, :], (shared - 1).clamp(min=0))
    return where_mask(baselines.gather(1, source), shared > 0)[groups]
