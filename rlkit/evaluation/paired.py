"""Is one model better than another on the same prompts? Differences prompt by prompt, which is sharper than two intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.evaluation.distributions import normal_quantile, sign_test_p_value
from rlkit.evaluation.statistics import are_binary, bootstrap_interval, standard_error

POWER = 0.8
"""Chance with which a difference of the reported smallest detectable size would be found."""
EXACT_DIFFERENCES = 14
"""Up to so many prompts with a difference, all sign changes are tried; beyond it `SIGN_FLIPS` random ones."""
SIGN_FLIPS = 20_000
_SIGNS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """The second model minus the first, over the same prompts.

    p_value     of no difference, two-sided; bounded below by 1 / (SIGN_FLIPS + 1) for a random permutation test
    detectable  smallest difference that would be found with 80 % power at this level and number of prompts
    method      mcnemar (exact; 0/1, one answer each) or permutation (sign changes of the prompts' mean differences)
    """

    prompts: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    detectable: float
    method: str
    better: int  # prompts on which the second model scores higher
    worse: int


def compare_paired(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    bootstrap_samples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Compare two models by their scores on the same prompts, in the same order. Raises `ValueError` for none or unequal counts."""
    if not first or len(first) != len(second):
        raise ValueError(f"paired comparison of {len(first)} and {len(second)} prompts")
    before = [math.fsum(row) / len(row) for row in first]
    after = [math.fsum(row) / len(row) for row in second]
    differences = [b - a for a, b in zip(before, after, strict=True)]
    better = sum(difference > 0 for difference in differences)
    worse = sum(difference < 0 for difference in differences)
    single = all(len(row) == 1 for row in (*first, *second))
    if single and are_binary(before) and are_binary(after):
        method, p_value = "mcnemar", sign_test_p_value(better, worse)
        low, high, error = _binary_interval(better, worse, len(differences), confidence)
    else:
        method, p_value = "permutation", sign_flip_p_value(differences, seed=seed)
        interval = bootstrap_interval(differences, confidence=confidence, samples=bootstrap_samples, seed=seed)
        low, high, error = interval.low, interval.high, standard_error(differences)
    return PairedTest(
        prompts=len(differences),
        first=math.fsum(before) / len(before),
        second=math.fsum(after) / len(after),
        difference=math.fsum(differences) / len(differences),
        low=low,
        high=high,
        p_value=p_value,
        detectable=(normal_quantile(0.5 + confidence / 2) + normal_quantile(POWER)) * error,
        method=method,
        better=better,
        worse=worse,
    )


def sign_flip_p_value(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of a zero mean: how often random signs make the sum at least as far from zero as it is.

    All signs when at most EXACT_DIFFERENCES differences are not zero; otherwise SIGN_FLIPS random ones, with the
    observed signs counted among them so that the level holds (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    import numpy as np

    values = np.asarray([difference for difference in differences if difference != 0.0], dtype=np.float64)
    if len(values) == 0:
        return 1.0
    observed = abs(float(values.sum())) * (1 - 1e-12)  # rounding must not turn an equal sum into a smaller one
    if len(values) <= EXACT_DIFFERENCES:
        bits = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((1.0 - 2.0 * bits) @ values) >= observed).mean())
    generator = np.random.default_rng(seed)
    at_once = max(1, _SIGNS_AT_ONCE // len(values))
    extreme = 0
    for start in range(0, SIGN_FLIPS, at_once):
        rows = min(at_once, SIGN_FLIPS - start)
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(rows, len(values)))
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (SIGN_FLIPS + 1)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979, Scandinavian Journal of Statistics 6, 65-70), in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _binary_interval(better: int, worse: int, prompts: int, confidence: float) -> tuple[float, float, float]:
    """Interval and standard error of the difference of two proportions from the same prompts.

    One prompt is added to each kind of disagreement (Bonett and Price 2012, doi:10.3102/1076998611411915), so that
    few disagreements do not look like certainty.
    """
    up, down = (better + 1) / (prompts + 2), (worse + 1) / (prompts + 2)
    error = math.sqrt((up + down - (up - down) ** 2) / (prompts + 2))
    half = normal_quantile(0.5 + confidence / 2) * error
    return max(-1.0, up - down - half), min(1.0, up - down + half), error
