"""From the algorithm section to the functions that the backends minimise."""

from __future__ import annotations

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.objective import PolicyObjective
from rlkit.algos.rollout_correction import ImportanceWeights, Rejection
from rlkit.config.algorithm import AlgorithmSection
from rlkit.config.reward_sections import TrainingRewardSection
from rlkit.config.rollout_correction import RolloutCorrectionSection
from rlkit.pipelines.algorithms import build_policy_loss
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.reward_shaping import RewardShaping


def build_policy_objective(
    section: AlgorithmSection, *, horizon: int, correction: RolloutCorrection | None = None
) -> PolicyObjective:
    """`horizon` is the divisor of seq_mean_token_sum_norm where the section gives none: tokens. `correction` is the run's."""
    return PolicyObjective(
        policy_loss=build_policy_loss(section),
        aggregation=Aggregation(section.loss_aggregation, section.horizon or horizon),
        kl_loss=section.kl_loss,
        kl_estimator=section.kl_estimator,
        entropy_bonus=section.entropy_bonus,
        correction=None if correction is None else correction.in_update(),
    )


def build_reward_shaping(section: TrainingRewardSection, *, limit: int) -> RewardShaping:
    """`limit` is the largest number of tokens that an answer may have."""
    return RewardShaping(
        clip=(section.clip[0], section.clip[1]) if section.clip else None,
        normalise=section.normalise,
        buffer=section.overlong_buffer_tokens,
        penalty=section.overlong_penalty,
        limit=limit,
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
