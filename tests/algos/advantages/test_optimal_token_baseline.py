"""The optimal token baseline by hand; `test_slow_reference` checks it against plain loops for many seeds."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.algos.advantages.optimal_token_baseline import compute_optimal_token_baseline

SURE, EVEN = (math.log(0.9), 0.82), (math.log(0.5), 0.5)
"""Log-prob of the sampled one of two words, and the sum of squares: 0.81 + 0.01, and 0.25 + 0.25."""
SURE_NOISE, EVEN_NOISE = 0.02, 0.5  # 1 - 2 * 0.9 + 0.82, and 1 - 2 * 0.5 + 0.5


def advantages(scores: list[float], tokens: list[list[tuple[float, float] | None]]) -> list[list[float]]:
    """tokens: (log-prob, sum of squares) of each; None is tool output. Scores stand on the last sampled token."""
    width = max(map(len, tokens))
    padded = [[*row, *[None] * (width - len(row))] for row in tokens]
    mask = torch.tensor([[token is not None for token in row] for row in padded])
    log_probs, squares = torch.tensor([[token or (0.0, 0.0) for token in row] for row in padded]).unbind(-1)
    rewards = torch.zeros(mask.shape)
    for row, score in enumerate(scores):
        rewards[row, int(mask[row].nonzero().max())] = score
    group_ids = torch.zeros(len(scores), dtype=torch.int64)
    return compute_optimal_token_baseline(rewards, mask, group_ids, log_probs, squares).tolist()


def test_the_baseline_weighs_answers_by_the_noise_of_their_tokens_so_far():
    found = advantages([1.0, 0.0], [[SURE, EVEN], [EVEN, EVEN]])
    first = SURE_NOISE / (SURE_NOISE + EVEN_NOISE)
    second = (SURE_NOISE + EVEN_NOISE) / (SURE_NOISE + EVEN_NOISE + 2 * EVEN_NOISE)
    assert found[0] == pytest.approx([1 - first, 1 - second], rel=1e-5)
    assert found[1] == pytest.approx([-first, -second], rel=1e-5)


def test_tool_output_is_no_token():
    plain = advantages([1.0, 0.0], [[SURE, EVEN], [EVEN, EVEN]])
    found = advantages([1.0, 0.0], [[SURE, None, None, EVEN], [EVEN, EVEN]])
    assert found[0] == pytest.approx([plain[0][0], 0, 0, plain[0][1]])
    assert found[1] == pytest.approx([*plain[1], 0, 0])


def test_beyond_the_second_longest_answer_the_last_shared_baseline_stays():
    found = advantages([1.0, 0.0, 0.0], [[EVEN] * 4, [EVEN], [EVEN] * 2])
    # Three equal weights at the first token, two at the second; then the longest is alone.
    assert found[0] == pytest.approx([2 / 3, 1 / 2, 1 / 2, 1 / 2])
    assert found[2] == pytest.approx([-1 / 3, -1 / 2, 0, 0])


def test_where_the_policy_was_certain_the_baseline_is_the_mean():
    certain = (0.0, 1.0)
    found = advantages([1.0, 0.0, 0.5], [[certain, EVEN], [certain, EVEN], [certain, EVEN]])
    assert [row[0] for row in found] == pytest.approx([0.5, -0.5, 0.0], abs=1e-6)


def test_a_single_answer_keeps_its_score():
    assert advantages([0.7], [[SURE, EVEN]])[0] == pytest.approx([0.7, 0.7])


def test_an_answer_without_sampled_tokens_has_no_say():
    rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    group_ids, log_probs, squares = torch.zeros(3).long(), torch.full((3, 2), -0.7), torch.full((3, 2), 0.5)
    with_it = compute_optimal_token_baseline(rewards, mask, group_ids, log_probs, squares)
    without = compute_optimal_token_baseline(rewards[:2], mask[:2], group_ids[:2], log_probs[:2], squares[:2])
    torch.testing.assert_close(with_it[:2], without)
    assert not with_it[2].any()
