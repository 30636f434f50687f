"""Means with intervals. The prompt is the unit: prompts are independent draws, answers to one prompt are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlkit.evaluation.distributions import normal_quantile, student_t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 2000
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class IntervalSettings:
    """Level of the intervals; resamples and seed of those that need a bootstrap."""

    confidence: float = 0.95
    bootstrap_samples: int = BOOTSTRAP_SAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A mean and the confidence interval around it.

    method  wilson, wilson_clustered, bootstrap, or none (a single value that is neither 0 nor 1: low = mean = high)
    """

    mean: float
    low: float
    high: float
    method: str


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95, bootstrap_samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> Interval:
    """The mean of one value for each prompt: Wilson when all are 0 or 1, else a bootstrap over prompts. Raises `ValueError` for none."""
    if not values:
        raise ValueError("the mean of no values")
    if are_binary(values):
        return wilson_interval(math.fsum(values) / len(values), len(values), confidence=confidence)
    return bootstrap_interval(values, confidence=confidence, samples=bootstrap_samples, seed=seed)


def sampled_mean_interval(
    scores: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over prompts of each prompt's mean score; `scores` holds each prompt's (one or more) scores.

    0/1 scores: Wilson, with several answers to a prompt on the effective number of answers (`clustered_wilson_interval`).
    Other scores: bootstrap over prompts.
    """
    means = prompt_means(scores)
    several = any(len(row) > 1 for row in scores)
    if several and all(are_binary(row) for row in scores):
        return clustered_wilson_interval(means, sum(map(len, scores)), confidence=confidence)
    return mean_interval(means, confidence=confidence, bootstrap_samples=bootstrap_samples, seed=seed)


def prompt_means(scores: Sequence[Sequence[float]]) -> list[float]:
    """Each prompt's mean score."""
    return [math.fsum(row) / len(row) for row in scores]


def are_binary(values: Sequence[float]) -> bool:
    """Every value is exactly 0 or 1."""
    return all(value in (0.0, 1.0) for value in values)


def wilson_interval(mean: float, trials: float, *, confidence: float) -> Interval:
    """Interval of a proportion from `trials` independent 0/1 values (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = normal_quantile(0.5 + confidence / 2)
    shrunk = 1.0 + z * z / trials
    centre = (mean + z * z / (2 * trials)) / shrunk
    half = z * math.sqrt(mean * (1 - mean) / trials + (z / (2 * trials)) ** 2) / shrunk
    return Interval(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), "wilson")


def clustered_wilson_interval(means: Sequence[float], trials: int, *, confidence: float) -> Interval:
    """Interval of a proportion from `trials` 0/1 answers to `len(means)` prompts, given each prompt's mean.

    Wilson's interval on the effective number of answers, mean (1 - mean) / variance of the mean over prompts, corrected
    for the degrees of freedom of that variance (Korn and Graubard 1998, Survey Methodology 24, 193-201). When the
    prompts are all right or all wrong the answers count as one for each prompt.
    """
    prompts = len(means)
    mean = math.fsum(means) / prompts
    if are_binary(means) or prompts < 2:
        effective = float(prompts)
    else:
        variance = standard_error(means) ** 2
        level = 0.5 + confidence / 2
        correction = (normal_quantile(level) / student_t_quantile(level, prompts - 1)) ** 2
        effective = trials if variance == 0 else min(float(trials), mean * (1 - mean) / variance * correction)
    interval = wilson_interval(mean, effective, confidence=confidence)
    return Interval(interval.mean, interval.low, interval.high, "wilson_clustered")


def bootstrap_interval(values: Sequence[float], *, confidence: float, samples: int, seed: int) -> Interval:
    """Interval of the mean of independent values by resampling them.

    The percentile interval with its level widened by Student's t and the factor sqrt(n / (n - 1)), which the plain
    one lacks and therefore covers too little (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, "expanded percentile").
    """
    import numpy as np

    mean = math.fsum(values) / len(values)
    count = len(values)
    if count < 2:
        return Interval(mean, mean, mean, "none")
    quantile = student_t_quantile(0.5 + confidence / 2, count - 1) * math.sqrt(count / (count - 1))
    outside = 0.5 * math.erfc(quantile / math.sqrt(2))
    means = np.concatenate(list(_resampled_means(np.asarray(values, dtype=np.float64), samples, seed)))
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)), "bootstrap")


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values; 0 for fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def _resampled_means(values: NDArray[np.float64], samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    import numpy as np

    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(values))
    for start in range(0, samples, at_once):
        rows = generator.integers(0, len(values), size=(min(at_once, samples - start), len(values)))
        yield values[rows].mean(axis=1)
