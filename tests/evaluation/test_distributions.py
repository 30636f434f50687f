"""Against SciPy."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from rlkit.evaluation.distributions import normal_quantile, sign_test_p_value, student_t_cdf, student_t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3.5, 10, 59, 1318, 1e6])
@pytest.mark.parametrize("value", [-40.0, -2.0, -0.01, 0.0, 0.3, 1.96, 12.0])
def test_student_t_cdf(value: float, degrees: float) -> None:
    assert math.isclose(student_t_cdf(value, degrees), stats.t.cdf(value, degrees), rel_tol=1e-7, abs_tol=1e-14)


@pytest.mark.parametrize("degrees", [1, 2, 3.5, 10, 59, 1318, 1e6, 1e9])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.4, 0.5, 0.9, 0.975, 0.9995])
def test_student_t_quantile(probability: float, degrees: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert math.isclose(student_t_quantile(probability, degrees), expected, rel_tol=1e-6, abs_tol=1e-9)


def test_normal_quantile() -> None:
    assert math.isclose(normal_quantile(0.975), stats.norm.ppf(0.975), rel_tol=1e-12)


@pytest.mark.parametrize(("successes", "failures"), [(0, 0), (1, 0), (5, 5), (3, 12), (0, 30), (120, 80), (4000, 3800)])
def test_the_sign_test_counts_the_outcome_itself_half(successes: int, failures: int) -> None:
    trials, fewer = successes + failures, min(successes, failures)
    expected = 2 * stats.binom.cdf(fewer, trials, 0.5) - stats.binom.pmf(fewer, trials, 0.5)
    if successes == failures:
        expected = 1.0
    assert math.isclose(sign_test_p_value(successes, failures), expected, rel_tol=1e-8)
