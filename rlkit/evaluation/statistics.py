"""Means with intervals. Clusters are independent draws: prompts, or families of prompts; answers to one prompt are not.

scores [prompts][answers] -> a value for each prompt -> sums over clusters -> mean, standard error, interval
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlkit.evaluation.distributions import normal_quantile, student_t_quantile

IntervalMethod = Literal["auto", "bootstrap"]
Floats = NDArray[np.float64]

BOOTSTRAP_SAMPLES = 2000
_DRAWS_AT_ONCE = 4_000_000
_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class IntervalSettings:
    """Level of the intervals; resamples and seed of the bootstrap; `bootstrap` resamples where `auto` would not."""

    confidence: float = 0.95
    bootstrap_samples: int = BOOTSTRAP_SAMPLES
    seed: int = 0
    method: IntervalMethod = "auto"


@dataclass(frozen=True)
class Interval:
    """A mean and the confidence interval around it.

    method          wilson, wilson_effective, bootstrap, student_t (a mean of means), or none (a single cluster whose
                    value is neither 0 nor 1: low = mean = high)
    standard_error  over clusters; None for a single one
    """

    mean: float
    low: float
    high: float
    method: str
    standard_error: float | None = None


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """One value for each prompt, added up by cluster: totals [G] of values, sizes [G] in prompts."""

    totals: Floats
    sizes: Floats

    @property
    def mean(self) -> float:
        """Over prompts."""
        return float(self.totals.sum() / self.sizes.sum())

    @property
    def standard_error(self) -> float:
        """Of the mean over prompts, by leaving out one cluster at a time; for clusters of one size the usual formula.

        Jackknife: sqrt((G - 1) / G * sum_g (mean without g - their mean)^2). Where clusters differ in size it is not
        too small, as the plain sum of squared residuals is (MacKinnon, Nielsen and Webb 2023,
        doi:10.1002/jae.2990, CV3J). 0 for fewer than two clusters.
        """
        count = len(self.totals)
        if count < 2:
            return 0.0
        without = (self.totals.sum() - self.totals) / (self.sizes.sum() - self.sizes)
        return math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the standard error: the effective number of clusters (Kish 1965), (sum n)^2 / sum n^2, less one."""
        return max(1.0, float(self.sizes.sum() ** 2 / (self.sizes**2).sum()) - 1.0)


def cluster_sums(values: Sequence[float] | Floats, clusters: Sequence[int] | None = None) -> ClusterSums:
    """`clusters` names each value's cluster by a number; None: each value is one of its own. Raises `ValueError` for no values."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise ValueError("the mean of no values")
    if clusters is None:
        return ClusterSums(array, np.ones(len(array)))
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    totals = np.bincount(codes, weights=array).astype(np.float64)
    return ClusterSums(totals, np.bincount(codes).astype(np.float64))


def mean_interval(
    values: Sequence[float] | Floats,
    settings: IntervalSettings | None = None,
    *,
    clusters: Sequence[int] | None = None,
    answers: int | None = None,
) -> Interval:
    """The mean of one value for each prompt. Raises `ValueError` for none.

    Values from 0 to 1: Wilson's interval, on the effective number of answers unless all are exactly 0 or 1 and each is a
    cluster. Other values: bootstrap over clusters. answers: number of right-or-wrong answers that the values are shares of.
    """
    settings = settings or IntervalSettings()
    array = np.asarray(values, dtype=np.float64)
    sums = cluster_sums(array, clusters)
    if settings.method == "bootstrap" or not _within_0_and_1(array):
        return bootstrap_interval(sums, settings)
    if clusters is None and are_binary(array):
        return wilson_interval(sums.mean, len(array), confidence=settings.confidence)
    return effective_wilson_interval(sums, answers, confidence=settings.confidence)


def are_binary(values: Sequence[float] | Floats) -> bool:
    """Every value is exactly 0 or 1."""
    return all(value in (0.0, 1.0) for value in values)


def wilson_interval(mean: float, trials: float, *, confidence: float) -> Interval:
    """Interval of a proportion from `trials` independent 0/1 values (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    low, high = _wilson_bounds(mean, trials, confidence)
    return Interval(mean, low, high, "wilson", math.sqrt(mean * (1 - mean) / (trials - 1)) if trials > 1 else None)


def effective_wilson_interval(sums: ClusterSums, answers: int | None, *, confidence: float) -> Interval:
    """Interval of a mean of values from 0 to 1 that may depend on each other within clusters.

    Wilson's on the number of independent 0/1 values that would give this standard error, mean (1 - mean) / error^2,
    corrected for the error's degrees of freedom (Korn and Graubard 1998, Survey Methodology 24, 193-201). It is never
    more than `answers`. Without any variance each cluster counts as a single answer.
    """
    count, mean, error = len(sums.totals), sums.mean, sums.standard_error
    mean = min(1.0, max(0.0, mean))
    if count < 2 and mean not in (0.0, 1.0) and answers is None:
        return Interval(mean, mean, mean, "none")
    if error < _NO_VARIANCE:
        effective = float(count)
    else:
        level = 0.5 + confidence / 2
        correction = (normal_quantile(level) / student_t_quantile(level, sums.degrees)) ** 2
        effective = max(1.0, mean * (1 - mean) / error**2 * correction)
    if answers is not None:
        effective = min(effective, float(answers))
    low, high = _wilson_bounds(mean, effective, confidence)
    return Interval(mean, low, high, "wilson_effective", error if count > 1 else None)


def bootstrap_interval(sums: ClusterSums, settings: IntervalSettings) -> Interval:
    """Interval of the mean over prompts by resampling clusters.

    The percentile interval with its level widened by Student's t and the factor sqrt(n / (n - 1)), which the plain
    one lacks and therefore covers too little (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, "expanded percentile").
    """
    mean, effective = sums.mean, sums.degrees + 1
    if len(sums.totals) < 2:
        return Interval(mean, mean, mean, "none")
    quantile = student_t_quantile(0.5 + settings.confidence / 2, sums.degrees) * math.sqrt(effective / (effective - 1))
    outside = 0.5 * math.erfc(quantile / math.sqrt(2))
    means = np.concatenate(list(_resampled_means(sums, settings.bootstrap_samples, settings.seed)))
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)), "bootstrap", sums.standard_error)


def mean_of_means(intervals: Sequence[Interval], degrees: Sequence[float], *, confidence: float) -> Interval:
    """The mean of independent means, each with the same weight, whatever the number of prompts behind it.

    Student's t with the degrees of freedom of Satterthwaite 1946, doi:10.2307/3002019. A mean whose standard error is
    unknown (a single cluster) makes that of all unknown: then low = mean = high and the method is none.
    """
    mean = math.fsum(interval.mean for interval in intervals) / len(intervals)
    errors = [interval.standard_error for interval in intervals if interval.standard_error is not None]
    if len(errors) < len(intervals):
        return Interval(mean, mean, mean, "none")
    squares = [(error / len(intervals)) ** 2 for error in errors]
    error = math.sqrt(math.fsum(squares))
    if error < _NO_VARIANCE:
        return Interval(mean, min(i.low for i in intervals), max(i.high for i in intervals), "none", 0.0)
    freedom = error**4 / math.fsum(square**2 / df for square, df in zip(squares, degrees, strict=True))
    half = student_t_quantile(0.5 + confidence / 2, freedom) * error
    low, high = mean - half, mean + half
    if all(interval.method.startswith("wilson") for interval in intervals):
        low, high = max(0.0, low), min(1.0, high)
    return Interval(mean, low, high, "student_t", error)


def _wilson_bounds(mean: float, trials: float, confidence: float) -> tuple[float, float]:
    z = normal_quantile(0.5 + confidence / 2)
    shrunk = 1.0 + z * z / trials
    centre = (mean + z * z / (2 * trials)) / shrunk
    half = z * math.sqrt(mean * (1 - mean) / trials + (z / (2 * trials)) ** 2) / shrunk
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _within_0_and_1(values: Floats) -> bool:
    return bool(((values >= 0.0) & (values <= 1.0)).all())


def _resampled_means(sums: ClusterSums, samples: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    count = len(sums.totals)
    at_once = max(1, _DRAWS_AT_ONCE // count)
    same_size = bool((sums.sizes == sums.sizes[0]).all())
    for start in range(0, samples, at_once):
        rows = generator.integers(0, count, size=(min(at_once, samples - start), count))
        prompts = count * sums.sizes[0] if same_size else sums.sizes[rows].sum(axis=1)
        yield sums.totals[rows].sum(axis=1) / prompts
