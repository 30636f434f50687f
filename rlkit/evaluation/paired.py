"""Is one model better than another on the same prompts? Differences prompt by prompt, which is sharper than two intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlkit.evaluation.distributions import normal_quantile, sign_test_p_value, student_t_quantile
from rlkit.evaluation.statistics import ClusterSums, Floats, are_binary, cluster_sums

POWER = 0.8
"""Chance with which a difference of the reported smallest detectable size would be found."""
EXACT_CLUSTERS = 14
"""Up to so many clusters with a difference, all sign changes are tried; beyond it `SIGN_FLIPS` random ones."""
SIGN_FLIPS = 20_000
_SIGNS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9  # relative: sums of the same differences in another order differ by less


@dataclass(frozen=True)
class PairedTest:
    """The second model minus the first, over the same prompts.

    clusters        independent units among the prompts; as many as prompts unless families of prompts were named
    standard_error  of the difference, over clusters
    low, high       interval of the difference
    p_value         of no difference, two-sided; bounded below by about 1 / (2 SIGN_FLIPS) for a random permutation test
    detectable      smallest true difference that would be found with 80 % power with these prompts, at the level divided
                    by the number of comparisons
    method          mcnemar (mid-p; 0/1, one answer each) or permutation (sign changes of the clusters' differences)
    """

    prompts: int
    clusters: int
    first: float
    second: float
    difference: float
    standard_error: float
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
    clusters: Sequence[int] | None = None,
    confidence: float = 0.95,
    comparisons: int = 1,
    seed: int = 0,
) -> PairedTest:
    """Compare two models by their scores on the same prompts, in the same order. Raises `ValueError` for none or unequal counts.

    clusters: a number for each prompt; prompts with the same number are not independent. comparisons: how many are made,
    for `detectable` alone.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"paired comparison of {len(first)} and {len(second)} prompts")
    before, after = _means(first), _means(second)
    differences = after - before
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    sums = cluster_sums(differences, clusters)
    level = 0.5 + confidence / 2
    single = clusters is None and all(len(row) == 1 for row in (*first, *second))
    if single and are_binary(before) and are_binary(after):
        method, p_value, quantile = "mcnemar", sign_test_p_value(better, worse), normal_quantile(level)
        centre, error = _binary_difference(better, worse, len(differences))
    else:
        method, p_value = "permutation", sign_flip_p_value(sums.totals, seed=seed)
        quantile = student_t_quantile(level, sums.degrees)
        centre, error = sums.mean, sums.standard_error
    return PairedTest(
        prompts=len(differences),
        clusters=len(sums.totals),
        first=float(before.mean()),
        second=float(after.mean()),
        difference=sums.mean,
        standard_error=error,
        low=centre - quantile * error,
        high=centre + quantile * error,
        p_value=p_value,
        detectable=_detectable(sums, error, method, 1 - confidence, comparisons),
        method=method,
        better=better,
        worse=worse,
    )


def sign_flip_p_value(differences: Sequence[float] | Floats, *, seed: int = 0) -> float:
    """Two-sided p-value of a zero mean: how often random signs make the sum as far from zero as it is.

    All signs when at most EXACT_CLUSTERS differences are not zero; equal sums count fully, so that the test never exceeds
    its level. Otherwise SIGN_FLIPS random ones, with the observed signs among them (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585), and equal sums count half (mid-p): scores of few possible values have many equal sums, and
    counting them fully would make the test reject less often than its level says.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0.0]
    if len(values) == 0:
        return 1.0
    observed = abs(float(values.sum()))
    margin = _ROUNDING * float(np.abs(values).sum())
    if len(values) <= EXACT_CLUSTERS:
        bits = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((1.0 - 2.0 * bits) @ values) >= observed - margin).mean())
    generator = np.random.default_rng(seed)
    at_once = max(1, _SIGNS_AT_ONCE // len(values))
    extreme = 0.5  # the observed signs
    for start in range(0, SIGN_FLIPS, at_once):
        rows = min(at_once, SIGN_FLIPS - start)
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(rows, len(values)), dtype=np.int8)
        sums = np.abs(signs @ values)
        extreme += float((sums > observed + margin).sum()) + 0.5 * float((np.abs(sums - observed) <= margin).sum())
    return min(1.0, extreme / (SIGN_FLIPS + 1))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979, Scandinavian Journal of Statistics 6, 65-70), in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _means(scores: Sequence[Sequence[float]]) -> Floats:
    return np.array([math.fsum(row) / len(row) for row in scores])


def _detectable(sums: ClusterSums, error: float, method: str, alpha: float, comparisons: int) -> float:
    """(quantile of the level + quantile of the power) * standard error (Bloom 1995, doi:10.1177/0193841X9501900504)."""
    level = 1 - alpha / (2 * comparisons)
    if method == "mcnemar":
        return (normal_quantile(level) + normal_quantile(POWER)) * error
    return (student_t_quantile(level, sums.degrees) + student_t_quantile(POWER, sums.degrees)) * error


def _binary_difference(better: int, worse: int, prompts: int) -> tuple[float, float]:
    """Centre of the interval, and standard error, of the difference of two proportions from the same prompts.

    One prompt is added to each kind of disagreement (Bonett and Price 2012, doi:10.3102/1076998611411915), so that
    few disagreements do not look like certainty.
    """
    up, down = (better + 1) / (prompts + 2), (worse + 1) / (prompts + 2)
    return up - down, math.sqrt((up + down - (up - down) ** 2) / (prompts + 2))
