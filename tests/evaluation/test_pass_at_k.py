"""pass@k and maj@k equal counting all draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from rlkit.evaluation.pass_at_k import SUBSETS, majority_at_k, pass_at_k, useful_ks


@pytest.mark.parametrize("samples", range(1, 11))
def test_pass_at_k_equals_brute_force(samples: int) -> None:
    for correct in range(samples + 1):
        outcomes = [True] * correct + [False] * (samples - correct)
        for k in range(1, samples + 1):
            draws = list(combinations(outcomes, k))
            assert math.isclose(pass_at_k(samples, correct, k), sum(map(any, draws)) / len(draws), abs_tol=1e-13)


def test_pass_at_k_of_very_many_answers_is_a_number() -> None:
    exact = 1 - math.comb(99_000, 500) / math.comb(100_000, 500)
    assert pass_at_k(100_000, 1000, 500) == pytest.approx(exact, rel=1e-10)
    assert pass_at_k(100_000, 0, 100_000) == 0.0
    assert pass_at_k(100_000, 1, 100_000) == 1.0


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 2, 5), (4, 5, 2), (4, 2, 0), (4, -1, 1)])
def test_impossible_draws_are_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(samples, correct, k)


def test_ks_are_powers_of_two_and_the_number_of_samples() -> None:
    assert [useful_ks(samples) for samples in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def majority(answers: Sequence[str | None], scores: Sequence[float]) -> float:
    """By the letter: the mean over the most frequent answers of the mean of each one's scores."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return sum(scores) / len(scores)
    best = [answer for answer, count in votes.items() if count == max(votes.values())]
    groups = [[s for a, s in zip(answers, scores, strict=True) if a == answer] for answer in best]
    return sum(sum(group) / len(group) for group in groups) / len(groups)


def test_the_majority_decides_and_ties_are_shared() -> None:
    def of_all(answers: list[str | None], scores: list[float]) -> float:
        return float(majority_at_k([answers], [scores], len(answers))[0])

    assert of_all(["3", "4", "4"], [0, 1, 1]) == 1
    assert of_all(["3", "3", "4"], [0, 0, 1]) == 0
    assert of_all(["3", "4"], [0, 1]) == 0.5
    assert of_all([None, None, "4"], [0, 0, 1]) == 1
    assert of_all([None, None], [0, 1]) == 0.5


@pytest.mark.parametrize("samples", [3, 6, 9])
def test_maj_at_k_equals_brute_force(samples: int) -> None:
    rng = np.random.default_rng(samples)
    answers = [[None if v == 3 else str(v) for v in rng.integers(0, 4, samples)] for _ in range(12)]
    scores = [[float(rng.random()) for _ in row] for row in answers]
    for k in range(1, samples + 1):
        expected = [
            np.mean([majority([a[i] for i in s], [v[i] for i in s]) for s in combinations(range(samples), k)])
            for a, v in zip(answers, scores, strict=True)
        ]
        assert math.comb(samples, k) <= SUBSETS
        assert majority_at_k(answers, scores, k) == pytest.approx(expected)


def test_maj_at_k_of_too_many_subsets_is_close_and_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    answers = [[str(v) for v in rng.choice(3, 13, p=[0.5, 0.3, 0.2])] for _ in range(200)]
    scores = [[float(answer == "0") for answer in row] for row in answers]
    assert math.comb(13, 5) > SUBSETS
    found = majority_at_k(answers, scores, 5)
    assert (found == majority_at_k(answers, scores, 5)).all()
    every = list(combinations(range(13), 5))
    expected = np.mean(
        [
            np.mean([majority([a[i] for i in s], [v[i] for i in s]) for s in every])
            for a, v in zip(answers[:20], scores[:20], strict=True)
        ]
    )
    assert float(found[:20].mean()) == pytest.approx(expected, abs=0.015)


def test_prompts_may_have_different_numbers_of_answers() -> None:
    values = majority_at_k([["1", "1", "2"], ["2", "2"]], [[1, 1, 0], [0, 0]], 2)
    assert values == pytest.approx([(1 + 0.5 + 0.5) / 3, 0.0])
    with pytest.raises(ValueError, match="maj@3 of 2 answers"):
        majority_at_k([["1", "2"]], [[1, 0]], 3)
