"""The paired test agrees with SciPy, keeps its level, and finds what it says it can find."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from rlkit.evaluation import paired
from rlkit.evaluation.paired import PairedTest, compare_paired, holm_adjusted, sign_flip_p_value


def ones(values: object) -> list[list[float]]:
    return [[float(value)] for value in values]  # type: ignore[attr-defined]


def test_single_0_1_answers_are_compared_by_mcnemar() -> None:
    first = ones([1] * 40 + [0] * 20 + [1] * 5 + [0] * 35)
    second = ones([1] * 40 + [1] * 20 + [0] * 5 + [0] * 35)
    result = compare_paired(first, second)
    assert (result.method, result.better, result.worse) == ("mcnemar", 20, 5)
    assert result.difference == pytest.approx(0.15)
    assert result.p_value == pytest.approx(2 * stats.binom.cdf(5, 25, 0.5) - stats.binom.pmf(5, 25, 0.5))
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


def test_families_of_prompts_are_the_units_that_change_sign() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((40, 2)), rng.random((40, 2))
    clusters = [number % 8 for number in range(40)]
    result = compare_paired(first.tolist(), second.tolist(), clusters=clusters)
    sums = [float((second - first).mean(axis=1)[number::8].sum()) for number in range(8)]
    assert (result.prompts, result.clusters) == (40, 8)
    assert result.p_value == pytest.approx(sign_flip_p_value(sums))
    assert result.standard_error == pytest.approx(stats.sem(sums) / 5)
    assert result.high - result.difference == pytest.approx(stats.t.ppf(0.975, 7) * result.standard_error)


def test_more_comparisons_can_detect_larger_differences_only() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((40, 2)).tolist(), rng.random((40, 2)).tolist()
    assert compare_paired(first, second, comparisons=3).detectable > compare_paired(first, second).detectable


Draw = Callable[[np.random.Generator], tuple[NDArray[np.float64], NDArray[np.float64]]]
FAMILIES = [number % 30 if number < 60 else number % 7 for number in range(120)]


def single_answers(prompts: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        difficulty = rng.random((prompts, 1))
        return (rng.random((prompts, 1)) < difficulty) * 1.0, (rng.random((prompts, 1)) < difficulty) * 1.0

    return draw


def four_answers(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    difficulty = rng.random((100, 1))
    return (rng.random((100, 4)) < difficulty) * 1.0, (rng.random((100, 4)) < difficulty) * 1.0


def few_gain_much(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equal on average, different on every prompt: one in ten gains much, the others lose a little."""
    shift = np.where(rng.random((200, 1)) < 0.1, 0.45, -0.05)
    return (rng.random((200, 4)) < 0.5) * 1.0, (rng.random((200, 4)) < 0.5 + shift) * 1.0


def unequal_spread(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    spread = rng.exponential(size=(60, 1)) ** 2
    return rng.normal(size=(60, 1)) * spread, rng.normal(size=(60, 1)) * spread


def in_families(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each model has its own luck with a family of prompts."""
    first, second = (np.clip(0.5 + 0.3 * rng.normal(size=(30, 1))[FAMILIES], 0, 1) for _ in range(2))
    return (rng.random((120, 2)) < first) * 1.0, (rng.random((120, 2)) < second) * 1.0


NO_DIFFERENCE: dict[str, tuple[Draw, list[int] | None]] = {
    "one answer, 60 prompts": (single_answers(60), None),
    "one answer, 500 prompts": (single_answers(500), None),
    "four answers": (four_answers, None),
    "few gain much": (few_gain_much, None),
    "unequal spread": (unequal_spread, None),
    "families": (in_families, FAMILIES),
}


def rejected(draw: Draw, clusters: list[int] | None, repeats: int) -> float:
    """How often two models are called different at 5 %."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(repeats):
        first, second = draw(rng)
        found += compare_paired(first.tolist(), second.tolist(), clusters=clusters).p_value <= 0.05
    return found / repeats


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_DIFFERENCE)
def test_without_a_difference_the_test_rejects_as_often_as_its_level(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "SIGN_FLIPS", 1000)  # only the speed depends on it
    draw, clusters = NO_DIFFERENCE[name]
    assert 0.04 <= rejected(draw, clusters, 3000) <= 0.06


@pytest.mark.slow
def test_families_taken_for_independent_prompts_would_reject_far_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "SIGN_FLIPS", 1000)
    assert rejected(in_families, None, 500) > 0.12


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 4])
def test_the_interval_of_the_difference_covers_as_it_says(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "SIGN_FLIPS", 10)
    rng = np.random.default_rng(4)
    hits = 0
    repeats = 1500
    for _ in range(repeats):
        difficulty = rng.beta(2.0, 2.0, size=(80, 1)) * 0.8
        first, second = rng.random((80, samples)) < difficulty, rng.random((80, samples)) < difficulty + 0.1
        result = compare_paired(first.astype(float).tolist(), second.astype(float).tolist())
        hits += result.low <= 0.1 <= result.high
    assert 0.93 <= hits / repeats <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "samples"), [(60, 1), (200, 1), (200, 4)])
def test_a_difference_of_the_detectable_size_is_found_four_times_in_five(
    prompts: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "SIGN_FLIPS", 1000)
    rng = np.random.default_rng(5)

    def pair(difference: float) -> PairedTest:
        difficulty = 0.1 + 0.5 * rng.random((prompts, 1))
        first, second = (
            (rng.random((prompts, samples)) < chance).astype(float) for chance in (difficulty, difficulty + difference)
        )
        return compare_paired(first.tolist(), second.tolist())

    detectable = float(np.mean([pair(0.0).detectable for _ in range(50)]))
    found = sum(pair(detectable).p_value <= 0.05 for _ in range(600)) / 600
    assert 0.74 <= found <= 0.86


def test_holms_correction_by_hand() -> None:
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_adjusted([0.6, 0.7]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


def test_comparing_nothing_or_unequal_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="paired comparison"):
        compare_paired([], [])
    with pytest.raises(ValueError, match="1 and 2 prompts"):
        compare_paired([[1]], [[1], [0]])
