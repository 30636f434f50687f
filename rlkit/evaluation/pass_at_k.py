"""What several answers to a prompt are worth together, estimated from n of them for any k up to n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

SUBSETS = 256
"""Up to so many subsets of k answers are all looked at; of more, so many random ones."""
_VOTES_AT_ONCE = 4_000_000
_NO_VOTE = -1


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that k answers drawn from `samples`, of which `correct` are right, hold a right one.

    1 - C(n - c, k) / C(n, k) as 1 - product over i = n - c + 1 .. n of (1 - k / i), which no n makes overflow; unbiased
    (Chen et al. 2021, arXiv:2107.03374, eq. 1 and figure 3). Raises `ValueError` for k > samples.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} of {correct} right answers among {samples}")
    return float(_pass_table(samples, k)[correct])


@lru_cache(maxsize=256)
def _pass_table(samples: int, k: int) -> NDArray[np.float64]:
    """pass@k for 0 .. samples right answers: [samples + 1]."""
    none_right = np.cumprod(np.maximum(0.0, 1.0 - k / np.arange(samples, 0, -1, dtype=np.float64)))
    return np.concatenate([[0.0], 1.0 - none_right])


def useful_ks(samples: int) -> list[int]:
    """1, 2, 4, ... up to `samples`, and `samples` itself."""
    powers = [1 << exponent for exponent in range(samples.bit_length()) if 1 << exponent <= samples]
    return powers if powers[-1] == samples else [*powers, samples]


def majority_at_k(
    answers: Sequence[Sequence[str | None]], scores: Sequence[Sequence[float]], k: int, *, seed: int = 0
) -> NDArray[np.float64]:
    """For each prompt [P] the score that the most frequent of k answers has, on average over the subsets of k of its answers.

    In a subset, answers that are equally frequent share; None does not vote; where none votes, the mean score of the
    subset. That mean over subsets is unbiased for k fresh answers. All subsets where there are at most SUBSETS, else as many
    random ones, the same for every prompt with as many answers. Raises `ValueError` for a prompt with fewer than k answers.
    """
    result = np.empty(len(answers))
    by_count: dict[int, list[int]] = {}
    for index, given in enumerate(answers):
        if len(given) < k:
            raise ValueError(f"maj@{k} of {len(given)} answers")
        by_count.setdefault(len(given), []).append(index)
    for count, indices in by_count.items():
        subsets = _subsets(count, k, seed)
        at_once = max(1, _VOTES_AT_ONCE // (subsets.size * k))
        for start in range(0, len(indices), at_once):
            part = indices[start : start + at_once]
            codes = np.array([_codes(answers[index]) for index in part])
            values = np.array([scores[index] for index in part], dtype=np.float64)
            result[part] = _mean_majority(codes[:, subsets], values[:, subsets])
    return result


def _mean_majority(codes: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[P] from the votes and scores [P, S, k] of every subset."""
    votes = codes != _NO_VOTE
    agreeing = np.zeros(codes.shape, dtype=np.int16)
    for other in range(codes.shape[-1]):
        agreeing += codes == codes[..., other : other + 1]
    agreeing = np.where(votes, agreeing, 0)
    # Answers of the most frequent kinds; where none votes all have 0 in agreement, and all count.
    winners = agreeing == agreeing.max(axis=-1, keepdims=True)
    means: NDArray[np.float64] = ((values * winners).sum(axis=-1) / winners.sum(axis=-1)).mean(axis=-1)
    return means


def _codes(answers: Sequence[str | None]) -> list[int]:
    numbers: dict[str, int] = {}
    return [_NO_VOTE if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]


@lru_cache(maxsize=64)
def _subsets(count: int, k: int, seed: int) -> NDArray[np.int64]:
    """Positions of the answers in each subset: [subsets, k]."""
    if math.comb(count, k) <= SUBSETS:
        return np.array(list(combinations(range(count), k)))
    generator = np.random.default_rng([seed, count, k])
    return np.argsort(generator.random((SUBSETS, count)), axis=1)[:, :k]
