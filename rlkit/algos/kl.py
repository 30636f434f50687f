"""Estimators of the divergence between the policy and a reference from sampled tokens.

Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html. With d = log p - log q for tokens
sampled from p: k1 = d (unbiased, high variance), k2 = d^2 / 2 (biased, low variance), k3 = exp(-d) - 1 + d (unbiased,
low variance, never negative), abs = |d|.

As a loss, k1 has the wrong gradient (its expectation is zero) and k3 a biased one; k2's is that of the divergence. The `+`
variants have the value of their base and the gradient of k2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlkit.algos.masked import at_least_float32

KLEstimator = Literal["k1", "k2", "k3", "abs", "k1+", "k2+", "k3+", "abs+"]

MAX_LOG_RATIO = 20.0
"""exp(20) is about 5e8: far beyond any useful ratio, still far from overflowing float32 when squared."""

MAX_K3 = 10.0
"""k3 grows exponentially where the reference is surer than the policy; one such token must not own the batch."""


def compute_kl(log_probs: Tensor, ref_log_probs: Tensor, estimator: KLEstimator) -> Tensor:
    """[B, R] estimate for each token, differentiable in `log_probs`; both [B, R], nats."""
    difference = at_least_float32(log_probs) - at_least_float32(ref_log_probs)
    if not estimator.endswith("+"):
        return _estimate(difference, estimator)
    gradient = difference.square() / 2
    return _estimate(difference.detach(), estimator.removesuffix("+")) + gradient - gradient.detach()


def _estimate(difference: Tensor, estimator: str) -> Tensor:
    match estimator:
        case "k1":
            return difference
        case "k2":
            return difference.square() / 2
        case "k3":
            negated = torch.clamp(-difference, -MAX_LOG_RATIO, MAX_LOG_RATIO)
            return torch.clamp(torch.exp(negated) - 1 - negated, -MAX_K3, MAX_K3)
        case "abs":
            return difference.abs()
    raise ValueError(f"unknown KL estimator '{estimator}'")
