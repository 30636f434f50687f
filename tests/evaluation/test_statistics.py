"""Intervals agree with SciPy where it has them, and cover the truth as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from rlkit.evaluation.pass_at_k import pass_at_k
from rlkit.evaluation.statistics import (
    Interval,
    IntervalSettings,
    cluster_sums,
    mean_interval,
    mean_of_means,
    wilson_interval,
)

Generator = np.random.Generator
Floats = NDArray[np.float64]
BOOTSTRAP = IntervalSettings(bootstrap_samples=400, method="bootstrap")


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (700, 1319)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_agrees_with_scipy(right: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(right, trials).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(right / trials, trials, confidence=confidence)
    assert math.isclose(interval.low, expected.low, abs_tol=1e-12)
    assert math.isclose(interval.high, expected.high, abs_tol=1e-12)


def test_one_answer_of_0_or_1_a_prompt_is_wilson() -> None:
    assert mean_interval([1, 1, 0, 1]) == wilson_interval(0.75, 4, confidence=0.95)


def test_prompts_that_are_all_right_or_all_wrong_count_once_each() -> None:
    assert mean_interval([1, 0, 1, 0], answers=32) == wilson_interval(0.5, 4, confidence=0.95)
    assert mean_interval([1.0] * 20, answers=160).low == wilson_interval(1.0, 20, confidence=0.95).low


def test_families_that_are_all_right_or_all_wrong_count_once_each() -> None:
    interval = mean_interval([1.0] * 20, clusters=[number // 5 for number in range(20)])
    assert interval.low == wilson_interval(1.0, 4, confidence=0.95).low
    mixed = mean_interval([1, 1, 1, 0, 0, 0] * 10, clusters=[number // 3 for number in range(60)])
    alone = mean_interval([1, 0] * 10)
    assert mixed.high - mixed.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_answers_that_do_not_cluster_count_almost_fully_and_never_more() -> None:
    means = [0.5] * 99 + [0.0]
    assert mean_interval(means, answers=200).low == pytest.approx(wilson_interval(0.495, 200, confidence=0.95).low)


def test_the_bootstrap_is_deterministic_and_agrees_with_scipys_percentiles_for_many_values() -> None:
    values = np.random.default_rng(3).exponential(size=2000)
    settings = IntervalSettings(bootstrap_samples=4000, seed=1)
    interval = mean_interval(values, settings)
    assert interval.method == "bootstrap"
    assert interval == mean_interval(values, settings)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert interval.low == pytest.approx(expected.low, abs=0.004)
    assert interval.high == pytest.approx(expected.high, abs=0.004)


def test_one_value_has_no_interval_and_no_values_no_mean() -> None:
    assert mean_interval([0.5]) == Interval(0.5, 0.5, 0.5, "none")
    assert mean_interval([2.0, 3.0], clusters=[1, 1]) == Interval(2.5, 2.5, 2.5, "none")
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_the_standard_error_is_scipys() -> None:
    values = [0.1, 0.5, 0.25, 1.0]
    assert cluster_sums(values).standard_error == pytest.approx(stats.sem(values))
    assert mean_interval(values).standard_error == pytest.approx(stats.sem(values))
    assert cluster_sums([1.0]).standard_error == 0.0


def test_clusters_of_one_size_have_the_standard_error_of_their_means() -> None:
    values = np.random.default_rng(1).random(60)
    clusters = [number % 12 for number in range(60)]
    means = [values[number::12].mean() for number in range(12)]
    assert cluster_sums(values, clusters).standard_error == pytest.approx(stats.sem(means))
    assert cluster_sums(values, clusters).degrees == pytest.approx(11)
    assert cluster_sums([1, 2, 3], [5, 5, 5]).mean == 2


def test_the_mean_of_sources_is_welchs() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(1, 1, 20), rng.normal(-1, 3, 60)
    intervals = [mean_interval(values) for values in (first, -second)]
    found = mean_of_means(intervals, [19, 59], confidence=0.95)
    # Half the difference of two means with unequal variances: its interval is Welch's.
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (2 * found.low, 2 * found.high) == pytest.approx((expected.low, expected.high))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.9, 0.99]),
    st.sampled_from(["auto", "bootstrap"]),
    st.booleans(),
)
def test_the_mean_is_inside_its_interval(values: list[float], confidence: float, method: str, clustered: bool) -> None:
    settings = IntervalSettings(confidence, 100, method=method)  # type: ignore[arg-type]
    clusters = [number // 2 for number in range(len(values))] if clustered else None
    interval = mean_interval(values, settings, clusters=clusters)
    assert interval.low - 1e-12 <= interval.mean <= interval.high + 1e-12


Draw = Callable[[Generator], Floats]


def coverage(
    draw: Draw,
    truth: float,
    *,
    clusters: list[int] | None = None,
    answers: int | None = None,
    settings: IntervalSettings | None = None,
    repeats: int = 1500,
) -> float:
    """How often the interval of the mean of what `draw` gives (a value for each prompt) holds the truth."""
    generator = np.random.default_rng(0)
    settings = settings or IntervalSettings(bootstrap_samples=400)
    hits = 0
    for _ in range(repeats):
        interval = mean_interval(draw(generator), settings, clusters=clusters, answers=answers)
        hits += interval.low <= truth <= interval.high
    return hits / repeats


def right_of(prompts: int, samples: int, a: float, b: float) -> Draw:
    """Each prompt's share of right answers; how hard a prompt is has a beta distribution."""
    return lambda rng: rng.binomial(samples, rng.beta(a, b, size=prompts)) / samples


@pytest.mark.parametrize(("prompts", "p"), [(30, 0.5), (60, 0.5), (200, 0.37), (300, 0.12), (500, 0.04), (1319, 0.04)])
def test_wilson_covers_as_it_says(prompts: int, p: float) -> None:
    assert 0.93 <= coverage(lambda rng: (rng.random(prompts) < p).astype(float), p) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "samples", "a", "b"),
    [
        (30, 4, 0.3, 0.7),
        (30, 8, 0.5, 4.5),
        (40, 4, 2, 2),
        (100, 8, 0.3, 0.7),
        (200, 4, 0.5, 4),
        (60, 16, 5, 1),
        (500, 4, 0.5, 9.5),
    ],
)
def test_several_answers_to_a_prompt_are_covered_as_it_says(prompts: int, samples: int, a: float, b: float) -> None:
    found = coverage(right_of(prompts, samples, a, b), a / (a + b), answers=prompts * samples)
    assert 0.93 <= found <= 0.97


def families(prompts: int, count: int) -> list[int]:
    """Families of very different sizes: the largest has many times the prompts of the smallest."""
    rng = np.random.default_rng(7)
    weights = 1 / np.arange(1, count + 1) ** 0.7
    return [*range(count), *rng.choice(count, prompts - count, p=weights / weights.sum())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "count", "samples", "a", "b"),
    [(60, 15, 2, 2, 2), (120, 30, 4, 0.5, 4.5), (300, 40, 1, 1, 1), (500, 60, 4, 0.3, 0.7)],
)
def test_clustered_prompts_are_covered_as_it_says(prompts: int, count: int, samples: int, a: float, b: float) -> None:
    clusters = families(prompts, count)

    def draw(rng: Generator) -> Floats:
        shared, own = rng.beta(a, b, size=count)[clusters], rng.beta(a, b, size=prompts)
        difficulty = np.where(rng.random(prompts) < 0.6, shared, own)
        shares: Floats = rng.binomial(samples, difficulty) / samples
        return shares

    truth = a / (a + b)
    assert 0.93 <= coverage(draw, truth, clusters=clusters, answers=prompts * samples) <= 0.97
    assert coverage(draw, truth, answers=prompts * samples, repeats=400) < 0.92, (
        "taken for independent they cover too little"
    )


def test_taking_answers_to_one_prompt_for_independent_ones_would_cover_far_less() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        scores = rng.random((100, 8)) < rng.beta(0.3, 0.7, size=(100, 1))
        interval = wilson_interval(float(scores.mean()), scores.size, confidence=0.95)
        hits += interval.low <= 0.3 <= interval.high
    assert hits / 500 < 0.8


GRADED: dict[str, tuple[Draw, float]] = {
    "shares of tests passed, 30 prompts": (lambda rng: rng.beta(0.3, 0.7, size=30), 0.3),
    "mostly zero, 30 prompts": (lambda rng: (rng.random(30) < 0.2) * rng.beta(2, 2, size=30), 0.1),
    "mostly zero, 200 prompts": (lambda rng: (rng.random(200) < 0.2) * rng.beta(2, 2, size=200), 0.1),
    "any number, 30 prompts": (lambda rng: rng.gamma(4.0, size=30) + rng.normal(size=30), 4.0),
    "any number, 500 prompts": (lambda rng: rng.gamma(4.0, size=500) + rng.normal(size=500), 4.0),
    "two values, 100 prompts": (lambda rng: rng.choice([-1.0, 1.2], size=100, p=[0.7, 0.3]), -0.34),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADED)
def test_scores_that_are_not_0_or_1_are_covered_as_it_says(name: str) -> None:
    draw, truth = GRADED[name]
    assert 0.93 <= coverage(draw, truth) <= 0.97


@pytest.mark.slow
def test_graded_scores_of_clustered_prompts_are_covered_as_it_says() -> None:
    clusters = families(120, 30)
    found = coverage(lambda rng: rng.gamma(2, size=30)[clusters] + rng.normal(size=120), 2.0, clusters=clusters)
    assert 0.93 <= found <= 0.97


@pytest.mark.slow
def test_pass_at_k_is_covered_as_it_says() -> None:
    table = np.array([pass_at_k(8, right, 4) for right in range(9)])
    difficulty = np.random.default_rng(1).beta(0.5, 2, size=2_000_000)
    truth = float((1 - (1 - difficulty) ** 4).mean())
    found = coverage(lambda rng: table[rng.binomial(8, rng.beta(0.5, 2, size=60))], truth)
    assert 0.93 <= found <= 0.97


@pytest.mark.slow
def test_the_bootstrap_alone_covers_as_it_says_for_a_hundred_prompts() -> None:
    assert 0.93 <= coverage(right_of(100, 4, 2, 2), 0.5, settings=BOOTSTRAP) <= 0.97


@pytest.mark.slow
def test_the_mean_of_sources_is_covered_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1500):
        first, second = (rng.random(40) < 0.5).astype(float), (rng.random(300) < 0.2).astype(float)
        found = mean_of_means([mean_interval(first), mean_interval(second)], [39, 299], confidence=0.95)
        hits += found.low <= 0.35 <= found.high
    assert 0.93 <= hits / 1500 <= 0.97
