"""A KL coefficient that follows a target (Ziegler et al. 2019, arXiv:1909.08593, section 2.2)."""

from __future__ import annotations

MAX_ERROR = 0.2
"""The relative error is clipped to this, so that one odd batch cannot swing the coefficient."""


def adapt_coefficient(coefficient: float, kl: float, *, target: float, horizon: float, answers: int) -> float:
    """coefficient * (1 + clip(kl / target - 1, -0.2, 0.2) * answers / horizon).

    kl: mean over answers of their summed KL from the reference, nats; target in the same unit; horizon in answers.
    """
    error = min(max(kl / target - 1, -MAX_ERROR), MAX_ERROR)
    return coefficient * (1 + error * answers / horizon)
