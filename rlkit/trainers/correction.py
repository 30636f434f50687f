"""What a run does about an engine whose probabilities differ from the trainer's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlkit.algos.correction_in_update import CorrectionInUpdate
from rlkit.algos.masked import masked_mean
from rlkit.algos.rollout_correction import (
    ImportanceWeights,
    Rejection,
    apply_rejections,
    correction_metrics,
    rollout_log_ratio,
)
from rlkit.errors import TrainingError
from rlkit.types import Ragged, Rollouts


@dataclass(frozen=True, eq=False)
class Corrected:
    """weights [B, R] or None; kept [B, R] bool: the loss mask; metrics: how far engine and trainer are apart."""

    weights: Tensor | None
    kept: Tensor
    metrics: dict[str, float]


@dataclass(frozen=True)
class RolloutCorrection:
    """weights None and no rules: nothing is changed, only measured.

    bypass: the engine's log-probs are taken for the old ones. It saves the actor's forward pass over the rollouts, and with
    it every comparison before the update; weights and rules then act inside the loss, see `in_update`.
    """

    weights: ImportanceWeights | None = None
    rules: tuple[Rejection, ...] = ()
    bypass: bool = False

    def __call__(self, rollouts: Rollouts, old_log_probs: Tensor, mask: Tensor) -> Corrected:
        """old_log_probs, mask [B, R]. Raises `TrainingError` when the engine gives no log-probs to correct with."""
        if self.bypass or (rollouts.rollout_log_probs is None and self.weights is None and not self.rules):
            return Corrected(None, mask, {})
        rollout_log_probs = engine_log_probs(rollouts).padded(0.0)
        log_ratio = rollout_log_ratio(old_log_probs, rollout_log_probs, mask)
        weights = None if self.weights is None else self.weights(log_ratio, mask)
        kept = apply_rejections(log_ratio, mask, self.rules)
        difference = (rollout_log_probs - old_log_probs).abs()
        metrics = {
            "rollout/log_prob_difference_mean": float(masked_mean(difference, mask)),
            "rollout/log_prob_difference_max": float(difference[mask].max()) if bool(mask.any()) else 0.0,
            **correction_metrics(old_log_probs, rollout_log_probs, mask, weights, kept),
        }
        return Corrected(weights, kept, metrics)

    def in_update(self) -> CorrectionInUpdate | None:
        """What the loss itself has to correct; None where it is corrected before the update, or not at all."""
        if not self.bypass or (self.weights is None and not self.rules):
            return None
        return CorrectionInUpdate(self.weights, self.rules)


def engine_log_probs(rollouts: Rollouts) -> Ragged:
    """The engine's log-probs. Raises `TrainingError` when it gives none."""
    if rollouts.rollout_log_probs is None:
        raise TrainingError(
            "rollout_correction needs the engine's log-probs, and this rollout engine gives none; "
            "choose another rollout.engine or switch the correction off"
        )
    return rollouts.rollout_log_probs
