"""What is done to the scores of answers before advantages are computed from them.

    score -> clip -> normalise -> overlong penalty

The clip comes first, so that an outlier does not enter the statistics; the penalty last, so that its size means the same
whatever the scale of the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NORMALISE_EPSILON = 1e-6


def clip_scores(scores: Tensor, low: float, high: float) -> Tensor:
    """`scores` [B] bounded to [low, high] (Mnih et al. 2015, doi:10.1038/nature14236, Methods)."""
    return scores.clamp(low, high)


def normalise_scores(scores: Tensor, mean: float, std: float) -> Tensor:
    """(s - mean) / (std + 1e-6), [B]."""
    return (scores - mean) / (std + NORMALISE_EPSILON)


def overlong_penalties(lengths: Tensor, *, limit: int, buffer: int, penalty: float) -> Tensor:
    """What an answer of each length [B] (tokens) gets for it, from 0 down to -penalty; float64.

        0                                                 length <= limit - buffer
        penalty (limit - buffer - length) / buffer        up to the limit
        -penalty                                          beyond it

    Soft overlong punishment, Yu et al. 2025, DAPO, arXiv:2503.14476, eq. 13, where penalty = 1. 0 < buffer <= limit.
    """
    over = (lengths.double() - (limit - buffer)).clamp(0, buffer)
    return -penalty * over / buffer


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of all scores so far (Welford 1962; in batches: Chan et al. 1979, eq. 2.1)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @staticmethod
    def of(scores: Tensor) -> Moments:
        """The moments of `scores` [B]; summed in float64."""
        values = scores.double()
        if not len(values):
            return Moments()
        mean = values.mean()
        return Moments(len(values), float(mean), float((values - mean).square().sum()))

    def joined(self, other: Moments) -> Moments:
        """The moments of both together."""
        count = self.count + other.count
        if count == 0:
            return self
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        squares = self.squares + other.squares + shift * shift * self.count * other.count / count
        return Moments(count, mean, squares)

    @property
    def std(self) -> float:
        """With Bessel's correction; 0 for fewer than two scores."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0


def scale_scores(scores: Tensor, std: float) -> Tensor:
    """s / std, [B]: the scale goes, zero stays zero; as it is where nothing has varied yet.

    Reward scaling, Engstrom et al. 2020, arXiv:2005.12729; by the spread of answers' scores instead of discounted returns.
    """
    return scores / std if std > NORMALISE_EPSILON else torch.clone(scores)
