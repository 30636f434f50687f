"""From rollouts and verdicts to experience: log-probs, values, token rewards, advantages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs, Estimator
from rlkit.algos.advantages.scaling import AdvantageScaling
from rlkit.algos.kl import KLEstimator, compute_kl
from rlkit.algos.masked import masked_mean, where_mask
from rlkit.algos.objective import explained_variance
from rlkit.algos.token_rewards import place_turn_scores, subtract_kl
from rlkit.errors import TrainingError
from rlkit.protocols import Critic, PolicyActor, ReferenceModel
from rlkit.protocols.actor import LogProbs
from rlkit.trainers.correction import RolloutCorrection, engine_log_probs
from rlkit.trainers.left_out import estimate_among, rows_with_verdict
from rlkit.trainers.residence import Residence
from rlkit.trainers.shared_trunk import SharedTrunk
from rlkit.trainers.signal_metrics import signal_metrics
from rlkit.trainers.truncation import without_truncated
from rlkit.types import Experience, Ragged, Reward, Rollouts


@dataclass(frozen=True)
class AdvantageSettings:
    """part_weights: weight of each reward function, by its part's name; compares_parts: the estimator looks at each of these
    instead of their sum; probability_squares: the estimator reads them;
    scaling: of what the estimator gives; mask_truncated: answers cut at the length limit leave the loss."""

    estimator: Estimator
    kl_estimator: KLEstimator
    part_weights: Mapping[str, float] = field(default_factory=dict)
    compares_parts: bool = False
    probability_squares: bool = False
    scaling: AdvantageScaling = field(default_factory=AdvantageScaling)
    mask_truncated: bool = False

    @property
    def compared_parts(self) -> tuple[str, ...]:
        return tuple(self.part_weights) if self.compares_parts else ()


@dataclass(frozen=True, eq=False)
class ModelAnswers:
    """What the models say about the rollouts before the update; None means that the run does not ask."""

    old_log_probs: Ragged
    entropy: Ragged | None
    probability_squares: Ragged | None
    ref_log_probs: Ragged | None
    old_values: Ragged | None


def ask_models(
    rollouts: Rollouts,
    actor: PolicyActor,
    reference: ReferenceModel | None,
    critic: Critic | None,
    *,
    temperature: float,
    bypass: bool = False,
    probability_squares: bool = False,
    residence: Residence | None = None,
) -> ModelAnswers:
    """One forward pass of each model of the run over the rollouts; `bypass` spares the actor's.

    residence: brings each model to its device for as long as it is asked; None: all of them are there.
    """
    residence = residence or Residence()
    policy: LogProbs | None = None
    values: Ragged | None = None
    ref_log_probs: Ragged | None = None
    if not bypass:
        residence.bring("actor")
        if isinstance(actor, SharedTrunk):
            policy, values = actor.compute_log_probs_and_values(
                rollouts, temperature=temperature, probability_squares=probability_squares
            )
        else:
            policy = actor.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)
    if reference is not None:  # right after the actor, which an adapter's reference is a part of
        residence.bring("reference")
        ref_log_probs = reference.compute_log_probs(rollouts, temperature=temperature).log_probs
    if critic is not None and values is None:
        residence.bring("critic")
        values = critic.compute_values(rollouts)
    residence.bring()
    return ModelAnswers(
        old_log_probs=engine_log_probs(rollouts) if policy is None else policy.log_probs,
        entropy=None if policy is None else policy.entropy,
        probability_squares=None if policy is None else policy.probability_squares,
        ref_log_probs=ref_log_probs,
        old_values=values,
    )


def build_experience(
    rollouts: Rollouts,
    rewards: Sequence[Reward],
    answers: ModelAnswers,
    settings: AdvantageSettings,
    correction: RolloutCorrection,
    *,
    kl_coefficient: float = 0.0,
    greedy_rewards: Sequence[Reward] | None = None,
) -> tuple[Experience, dict[str, float]]:
    """The experience, and metrics of what went into it.

    rewards, greedy_rewards: as shaped for learning, of the answers and of each prompt's greedy answer; what has no verdict
    is left out of baselines and loss. kl_coefficient: of the KL in the token rewards. Raises `TrainingError` when the
    estimator leaves a critic untaught, and when no answer is left.
    """
    mask = rollouts.response_mask.padded(False)
    old_log_probs = answers.old_log_probs.padded(0.0)
    token_rewards = _token_rewards(rewards, mask)
    token_rewards, metrics = _less_kl(token_rewards, answers, settings.kl_estimator, mask, kl_coefficient)
    values = None if answers.old_values is None else answers.old_values.padded(0.0)
    squares = None if answers.probability_squares is None else answers.probability_squares.padded(0.0)
    rows = rows_with_verdict(rewards, greedy_rewards, rollouts.group_ids)
    metrics |= _left_out_metrics(rows)
    advantages, returns = estimate_among(
        settings.estimator,
        AdvantageInputs(
            token_rewards=token_rewards,
            mask=mask,
            group_ids=rollouts.group_ids,
            old_log_probs=old_log_probs,
            values=values,
            greedy_scores=_greedy_scores(greedy_rewards, rollouts.group_ids),
            part_scores=_part_scores(rewards, tuple(settings.part_weights)),
            part_weights=tuple(settings.part_weights.values()),
            probability_squares=squares,
        ),
        rows,
    )
    learned = mask & rows[:, None]
    if values is not None and returns is None:
        raise TrainingError(
            "the advantage estimator reads a critic and gives it no targets: nothing could teach it; "
            "let it return the pair (advantages, returns)"
        )
    advantages, scaled = settings.scaling(advantages, learned)
    metrics |= scaled
    if values is not None and returns is not None:
        metrics["critic/explained_variance"] = explained_variance(values, returns, learned)
    metrics |= signal_metrics(token_rewards, advantages, returns, values, learned)
    if answers.entropy is not None:
        metrics["actor/entropy_before"] = float(masked_mean(answers.entropy.padded(0.0), mask))
    corrected = correction(rollouts, old_log_probs, mask)
    kept = corrected.kept & learned
    metrics |= corrected.metrics
    if settings.mask_truncated:
        kept, metrics["response/masked_fraction"] = without_truncated(rollouts, kept)
    lengths = rollouts.response_ids.lengths
    experience = Experience(
        rollouts=rollouts,
        old_log_probs=answers.old_log_probs,
        # Scores and baselines are those of all answers; what was rejected only loses its place in the loss.
        advantages=Ragged.from_padded(where_mask(advantages, kept), lengths),
        loss_mask=Ragged.from_padded(kept, lengths),
        returns=None if returns is None else Ragged.from_padded(returns, lengths),
        old_values=answers.old_values,
        ref_log_probs=answers.ref_log_probs,
        importance_weights=None if corrected.weights is None else Ragged.from_padded(corrected.weights, lengths),
    )
    return experience, metrics


def _less_kl(
    token_rewards: Tensor, answers: ModelAnswers, estimator: KLEstimator, mask: Tensor, coefficient: float
) -> tuple[Tensor, dict[str, float]]:
    """token_rewards [B, R] without `coefficient` times the KL from the reference, and what that is; as they are without one."""
    if answers.ref_log_probs is None:
        return token_rewards, {}
    old_log_probs, ref_log_probs = answers.old_log_probs.padded(0.0), answers.ref_log_probs.padded(0.0)
    between = compute_kl(old_log_probs, ref_log_probs, estimator)
    metrics = {"actor/kl_to_reference": float(masked_mean(between, mask))}
    if coefficient > 0:
        token_rewards, kl = subtract_kl(
            token_rewards, old_log_probs, ref_log_probs, mask, coefficient=coefficient, estimator=estimator
        )
        metrics["reward/kl_penalty"] = float(coefficient * kl.sum(dim=1).mean())
        metrics["reward/kl_coefficient"] = coefficient
    return token_rewards, metrics


def _left_out_metrics(rows: Tensor) -> dict[str, float]:
    """rows: bool [B], those that are learned from. Raises `TrainingError` when there are none."""
    if not bool(rows.any()):
        raise TrainingError(
            "no answer of this step can be learned from: those without a verdict are left out, and so is an answer that "
            "no other of its prompt is left to be compared with; see reward/errors and the log"
        )
    return {} if bool(rows.all()) else {"reward/left_out_fraction": 1 - float(rows.double().mean())}


def _token_rewards(rewards: Sequence[Reward], mask: Tensor) -> Tensor:
    """[B, R]; see `place_turn_scores`."""
    scores = torch.tensor([reward.score for reward in rewards], dtype=torch.float32)
    return place_turn_scores(scores, [reward.turn_scores for reward in rewards], mask)


def _greedy_scores(rewards: Sequence[Reward] | None, group_ids: Tensor) -> Tensor | None:
    """[B]: the greedy answer's score on every row of its prompt; group_ids count the prompts."""
    if rewards is None:
        return None
    return torch.tensor([reward.score for reward in rewards], dtype=torch.float32)[group_ids]


def _part_scores(rewards: Sequence[Reward], names: Sequence[str]) -> Tensor | None:
    """[B, K] score of each reward function; a function that abstained on an answer gave it 0."""
    if not names:
        return None
    return torch.tensor([[reward.parts.get(name, 0.0) for name in names] for reward in rewards], dtype=torch.float32)
