"""Intervals agree with SciPy where it has them, and cover the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from rlkit.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    sampled_mean_interval,
    standard_error,
    wilson_interval,
)


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (700, 1319)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_agrees_with_scipy(right: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(right, trials).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(right / trials, trials, confidence=confidence)
    assert math.isclose(interval.low, expected.low, abs_tol=1e-12)
    assert math.isclose(interval.high, expected.high, abs_tol=1e-12)


def test_one_answer_of_0_or_1_a_prompt_is_wilson() -> None:
    expected = wilson_interval(0.75, 4, confidence=0.95)
    assert mean_interval([1, 1, 0, 1]) == expected
    assert sampled_mean_interval([[1], [1], [0], [1]]) == expected


def test_prompts_that_are_all_right_or_all_wrong_count_once_each() -> None:
    once = wilson_interval(0.5, 4, confidence=0.95)
    interval = sampled_mean_interval([[1] * 8, [0] * 8, [1] * 8, [0] * 8])
    assert (interval.low, interval.high) == (once.low, once.high)
    assert sampled_mean_interval([[1] * 8] * 20).low == wilson_interval(1.0, 20, confidence=0.95).low


def test_answers_that_do_not_cluster_count_almost_fully() -> None:
    interval = sampled_mean_interval([[1, 0]] * 100)
    assert interval.low == pytest.approx(wilson_interval(0.5, 200, confidence=0.95).low)


def test_the_bootstrap_is_deterministic_and_agrees_with_scipys_percentiles_for_many_values() -> None:
    values = np.random.default_rng(3).exponential(size=2000)
    interval = bootstrap_interval(values.tolist(), confidence=0.95, samples=4000, seed=1)
    assert interval == bootstrap_interval(values.tolist(), confidence=0.95, samples=4000, seed=1)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert interval.low == pytest.approx(expected.low, abs=0.004)
    assert interval.high == pytest.approx(expected.high, abs=0.004)


def test_one_value_has_no_interval_and_no_values_no_mean() -> None:
    assert mean_interval([0.5]) == Interval(0.5, 0.5, 0.5, "none")
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_the_standard_error_is_scipys() -> None:
    values = [0.1, 0.5, 0.25, 1.0]
    assert standard_error(values) == pytest.approx(stats.sem(values))
    assert standard_error([1.0]) == 0.0


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=5), min_size=1, max_size=30))
def test_intervals_of_0_and_1_hold_their_mean_and_stay_within_0_and_1(scores: list[list[float]]) -> None:
    interval = sampled_mean_interval(scores)
    assert 0.0 <= interval.low <= interval.mean <= interval.high <= 1.0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.5, 0.99))
def test_any_interval_holds_its_mean(values: list[float], confidence: float) -> None:
    interval = mean_interval(values, confidence=confidence, bootstrap_samples=200)
    assert interval.low <= interval.mean <= interval.high


def _coverage(draw: object, truth: float, repeats: int = 1500) -> float:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(repeats):
        scores: NDArray[np.float64] = draw(generator)  # type: ignore[operator]
        interval = sampled_mean_interval(scores.tolist(), bootstrap_samples=400)
        hits += interval.low <= truth <= interval.high
    return hits / repeats


@pytest.mark.parametrize(("prompts", "p"), [(60, 0.5), (200, 0.37), (300, 0.12), (1319, 0.04)])
def test_wilson_covers_as_it_says(prompts: int, p: float) -> None:
    assert 0.93 <= _coverage(lambda rng: (rng.random((prompts, 1)) < p).astype(float), p) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "samples", "a", "b"), [(40, 4, 2.0, 2.0), (100, 8, 0.3, 0.7), (200, 4, 0.5, 4.0), (60, 16, 5.0, 1.0)]
)
def test_clustered_answers_are_covered_as_it_says(prompts: int, samples: int, a: float, b: float) -> None:
    def draw(rng: np.random.Generator) -> NDArray[np.float64]:
        difficulty = rng.beta(a, b, size=(prompts, 1))
        return (rng.random((prompts, samples)) < difficulty).astype(float)

    assert 0.93 <= _coverage(draw, a / (a + b)) <= 0.97


def test_taking_clustered_answers_for_independent_ones_would_cover_far_less() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        difficulty = rng.beta(0.3, 0.7, size=(100, 1))
        scores = rng.random((100, 8)) < difficulty
        interval = wilson_interval(float(scores.mean()), scores.size, confidence=0.95)
        hits += interval.low <= 0.3 <= interval.high
    assert hits / 500 < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [20, 100])
@pytest.mark.parametrize("samples", [1, 4])
def test_scores_that_are_not_0_or_1_are_covered_as_it_says(prompts: int, samples: int) -> None:
    def draw(rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.gamma(4.0, size=(prompts, 1)) + rng.normal(size=(prompts, samples))

    assert 0.93 <= _coverage(draw, 4.0) <= 0.97
