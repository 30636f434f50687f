"""Rollout correction inside the loss, where the engine's log-probs are the old ones and nothing could be compared before.

Each update compares the policy as it is then with the one that answered: log rho = log pi_theta - log pi_engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlkit.algos.rollout_correction import ImportanceWeights, Rejection, apply_rejections, rollout_log_ratio


@dataclass(frozen=True, eq=False)
class CorrectedTokens:
    """weights [B, R] or None, without gradient; kept [B, R] bool; metrics: name -> [B, R], to be averaged over the mask."""

    weights: Tensor | None
    kept: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True)
class CorrectionInUpdate:
    """With the plain policy gradient: loss = -sg(w(rho)) A log pi_theta over what the rules keep (Williams 1992, weighted
    as in Espeholt et al. 2018, arXiv:1802.01561).

    Weights and rules look at one token or one answer at a time, so that the split into micro-batches changes nothing;
    `normalise` of the weights would need them all and is refused. Rejected tokens keep their place in the denominators of
    the loss, which are counted before anything is known of them.
    """

    weights: ImportanceWeights | None = None
    rules: tuple[Rejection, ...] = ()

    def __post_init__(self) -> None:
        if self.weights is not None and self.weights.normalise:
            raise ValueError("weights inside the loss cannot be normalised: a micro-batch has only some of them")

    def __call__(self, log_probs: Tensor, engine_log_probs: Tensor, mask: Tensor) -> CorrectedTokens:
        """All [B, R]; whole answers in each row."""
        log_ratio = rollout_log_ratio(log_probs, engine_log_probs, mask)
        kept = apply_rejections(log_ratio, mask, self.rules)
        metrics = {"rollout/rejected_fraction": (mask & ~kept).to(log_ratio.dtype)}
        if self.weights is None:
            return CorrectedTokens(None, kept, metrics)
        weights = self.weights(log_ratio, mask)
        return CorrectedTokens(weights, kept, {**metrics, "rollout/weight_mean": weights})
