"""Scores land on the last sampled token; the KL penalty is taken from every one."""

from __future__ import annotations

import torch

from rlkit.algos.token_rewards import place_scores, place_turn_scores, subtract_kl

MASK = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)


def test_the_score_stands_on_the_last_sampled_token():
    placed = place_scores(torch.tensor([2.0, -1.0, 9.0]), MASK)
    assert placed.tolist() == [[0, 0, 0, 2, 0], [0, 0, 0, 0, -1], [0, 0, 0, 0, 0]]


def test_the_penalty_is_the_coefficient_times_the_kl_and_only_inside_the_mask():
    rewards = torch.zeros(3, 5)
    log_probs, ref = torch.full((3, 5), -1.0), torch.full((3, 5), -1.5)
    penalised, kl = subtract_kl(rewards, log_probs, ref, MASK, coefficient=0.2, estimator="k1")
    torch.testing.assert_close(kl, torch.where(MASK, 0.5, 0.0))
    torch.testing.assert_close(penalised, torch.where(MASK, -0.1, 0.0))


def test_a_turns_own_score_stands_on_its_last_token_and_the_rest_on_the_last_of_all():
    placed = place_turn_scores(torch.tensor([2.0, -1.0, 0.0]), [(0.5, 1.0), (), ()], MASK)
    assert placed.tolist() == [[0, 0.5, 0, 1.5, 0], [0, 0, 0, 0, -1], [0, 0, 0, 0, 0]]


def test_turn_scores_leave_the_sum_of_a_row_alone():
    scores = torch.tensor([0.25, 3.0, 0.0])
    assert place_turn_scores(scores, [(4.0, -1.0), (2.0,), ()], MASK).sum(dim=1).tolist() == scores.tolist()
