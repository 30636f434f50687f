"""The paired test agrees with SciPy, keeps its level, and finds what it says it can find."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from rlkit.evaluation.paired import compare_paired, holm_adjusted, sign_flip_p_value


def ones(values: object) -> list[list[float]]:
    return [[float(value)] for value in values]  # type: ignore[attr-defined]


def test_single_0_1_answers_are_compared_by_mcnemar() -> None:
    first = ones([1] * 40 + [0] * 20 + [1] * 5 + [0] * 35)
    second = ones([1] * 40 + [1] * 20 + [0] * 5 + [0] * 35)
    result = compare_paired(first, second)
    assert (result.method, result.better, result.worse) == ("mcnemar", 20, 5)
    assert result.difference == pytest.approx(0.15)
    assert result.p_value == pytest.approx(stats.binomtest(5, 25).pvalue)
    assert 0 < result.low < 0.15 < result.high


def test_swapping_the_models_turns_the_result_around() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((30, 3)).tolist(), rng.random((30, 3)).tolist()
    there, back = compare_paired(first, second), compare_paired(second, first)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.better, there.worse) == (back.worse, back.better)


def test_equal_models_have_no_difference_and_still_an_interval() -> None:
    result = compare_paired(ones([1, 0, 1, 1]), ones([1, 0, 1, 1]))
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert result.low < 0 < result.high
    assert result.detectable > 0.5


def test_few_differences_are_tried_in_all_signs() -> None:
    differences = [0.5, -0.25, 1.0, 0.75, 0.0, 0.3]
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=6)]
    expected = sum(total >= observed - 1e-12 for total in sums) / len(sums)
    assert sign_flip_p_value(differences) == pytest.approx(expected)
    scipy = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p_value(differences) == pytest.approx(scipy.pvalue)


def test_many_differences_agree_with_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    differences = (rng.normal(size=200) + 0.15).tolist()
    assert sign_flip_p_value(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 4])
def test_without_a_difference_the_test_rejects_as_often_as_its_level(samples: int) -> None:
    rng = np.random.default_rng(2)
    rejected = 0
    repeats = 600
    for _ in range(repeats):
        difficulty = rng.beta(1.0, 1.0, size=(60, 1))
        first, second = (rng.random((60, samples)) < difficulty, rng.random((60, samples)) < difficulty)
        result = compare_paired(first.astype(float).tolist(), second.astype(float).tolist(), bootstrap_samples=50)
        rejected += result.p_value <= 0.05
    # The exact McNemar test is conservative; the permutation test is exact up to its randomness.
    assert rejected / repeats <= 0.07
    if samples > 1:
        assert rejected / repeats >= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 4])
def test_the_interval_of_the_difference_covers_as_it_says(samples: int) -> None:
    rng = np.random.default_rng(4)
    hits = 0
    repeats = 1500
    for _ in range(repeats):
        difficulty = rng.beta(2.0, 2.0, size=(80, 1)) * 0.8
        first, second = rng.random((80, samples)) < difficulty, rng.random((80, samples)) < difficulty + 0.1
        result = compare_paired(first.astype(float).tolist(), second.astype(float).tolist(), bootstrap_samples=400)
        hits += result.low <= 0.1 <= result.high
    assert 0.93 <= hits / repeats <= 0.975


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(5)
    detectable = compare_paired(np.zeros((150, 1)).tolist(), rng.normal(size=(150, 1)).tolist()).detectable
    found = 0
    for _ in range(400):
        differences = rng.normal(size=150) + detectable
        found += stats.ttest_1samp(differences, 0).pvalue < 0.05
    assert 0.72 <= found / 400 <= 0.88


def test_holms_correction_by_hand() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjusted([0.6, 0.7]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


def test_comparing_nothing_or_unequal_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="paired comparison"):
        compare_paired([], [])
    with pytest.raises(ValueError, match="1 and 2 prompts"):
        compare_paired([[1]], [[1], [0]])
