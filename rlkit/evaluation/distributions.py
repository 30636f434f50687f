"""Quantiles and tails of the distributions that intervals and tests need."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_STANDARD_NORMAL = NormalDist()
_MAX_TERMS = 300
_TINY = 1e-300
_MANY_DEGREES = 1e7  # beyond it Student's t and the normal quantile agree to 7 digits


def normal_quantile(probability: float) -> float:
    """z with P(Z <= z) = probability, for a standard normal Z."""
    return _STANDARD_NORMAL.inv_cdf(probability)


def student_t_cdf(value: float, degrees: float) -> float:
    """P(T <= value) for Student's t with `degrees` > 0 degrees of freedom."""
    tail = 0.5 * _regularised_beta(degrees / (degrees + value * value), degrees / 2, 0.5)
    return 1.0 - tail if value > 0 else tail


@lru_cache(maxsize=4096)
def student_t_quantile(probability: float, degrees: float) -> float:
    """t with P(T <= t) = probability, by bisection."""
    if degrees > _MANY_DEGREES:
        return normal_quantile(probability)
    if probability < 0.5:
        return -student_t_quantile(1.0 - probability, degrees)
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees) < probability:
        high *= 2.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def sign_test_p_value(successes: int, failures: int) -> float:
    """Two-sided mid-p-value of `successes` against `failures` when both are equally likely (binomial, 1/2).

    The outcome itself counts half: P(more extreme) + P(as extreme) / 2. Its level is the nominal one on average, where the
    exact test's is far below (Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91).
    """
    trials, fewer = successes + failures, min(successes, failures)
    if successes == failures:
        return 1.0
    log_half = trials * math.log(0.5)
    terms = [math.exp(_log_choose(trials, k) + log_half) for k in range(fewer + 1)]
    return 2.0 * math.fsum(terms) - terms[-1]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _regularised_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (Lentz's method; Press et al., Numerical Recipes, section 6.4)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _regularised_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MAX_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            fraction *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
