"""From the algorithm section to the functions that the backends minimise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.objective import PolicyObjective
from rlkit.algos.policy_losses.cispo import CISPO
from rlkit.algos.policy_losses.gmpo import GMPO
from rlkit.algos.policy_losses.gpg import GPG
from rlkit.algos.policy_losses.gspo import GSPO
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.algos.policy_losses.sapo import SAPO
from rlkit.algos.policy_losses.token_losses import PolicyLoss
from rlkit.algos.rollout_correction import ImportanceWeights, Rejection
from rlkit.config.algorithm import AlgorithmSection
from rlkit.config.rollout_correction import RolloutCorrectionSection
from rlkit.trainers.correction import RolloutCorrection

POLICY_LOSSES: Mapping[str, Callable[[AlgorithmSection], PolicyLoss]] = {
    "ppo_clip": lambda section: PPOClip(section.clip_low, section.clip_high, section.dual_clip),
    "gspo": lambda section: GSPO(section.clip_low, section.clip_high),
    "cispo": lambda section: CISPO(section.clip_low, section.clip_high),
    "sapo": lambda section: SAPO(section.sapo_tau_positive, section.sapo_tau_negative),
    "gmpo": lambda section: GMPO(section.clip_low, section.clip_high),
    "gpg": lambda section: GPG(),
}
"""By the name that `algorithm.policy_loss` has for them."""


def build_policy_objective(section: AlgorithmSection, *, horizon: int) -> PolicyObjective:
    """`horizon` is the divisor of seq_mean_token_sum_norm where the section gives none: tokens."""
    return PolicyObjective(
        policy_loss=POLICY_LOSSES[section.policy_loss](section),
        aggregation=Aggregation(section.loss_aggregation, section.horizon or horizon),
        kl_loss=section.kl_loss,
        kl_estimator=section.kl_estimator,
        entropy_bonus=section.entropy_bonus,
    )


def build_correction(section: RolloutCorrectionSection) -> RolloutCorrection:
    """What the run does about differences between engine and trainer."""
    weights = None
    if section.importance_weights != "none":
        weights = ImportanceWeights(
            section.importance_weights,
            section.weight_high,
            section.weight_low,
            zero_outside=section.outside == "zero",
            normalise=section.normalise,
        )
    return RolloutCorrection(weights, tuple(Rejection(*rule) for rule in section.rules), section.bypass)
