"""pass@k equals counting all draws."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from rlkit.evaluation.pass_at_k import majority_score, pass_at_k, useful_ks


@pytest.mark.parametrize("samples", range(1, 9))
def test_pass_at_k_equals_brute_force(samples: int) -> None:
    for correct in range(samples + 1):
        outcomes = [True] * correct + [False] * (samples - correct)
        for k in range(1, samples + 1):
            draws = list(combinations(outcomes, k))
            assert math.isclose(pass_at_k(samples, correct, k), sum(map(any, draws)) / len(draws), abs_tol=1e-15)


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 2, 5), (4, 5, 2), (4, 2, 0), (4, -1, 1)])
def test_impossible_draws_are_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(samples, correct, k)


def test_ks_are_powers_of_two_and_the_number_of_samples() -> None:
    assert [useful_ks(samples) for samples in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def test_the_majority_decides_and_ties_are_shared() -> None:
    assert majority_score(["3", "4", "4"], [0, 1, 1]) == 1
    assert majority_score(["3", "3", "4"], [0, 0, 1]) == 0
    assert majority_score(["3", "4"], [0, 1]) == 0.5
    assert majority_score([None, None, "4"], [0, 0, 1]) == 1
    assert majority_score([None, None], [0, 0]) == 0
