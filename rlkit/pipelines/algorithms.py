"""From the names in the algorithm section to estimators and losses, and to what the run must provide for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from rlkit.algos.adaptive_kl import MAX_ERROR
from rlkit.config.algorithm import AlgorithmSection
from rlkit.errors import ConfigError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin, load_spec
from rlkit.plugin.references import is_reference

if TYPE_CHECKING:
    from rlkit.algos.advantages.estimators import Estimator
    from rlkit.algos.policy_losses.token_losses import PolicyLoss
    from rlkit.config.runs import PPOConfig


@dataclass(frozen=True)
class RunNeeds:
    """What the estimator of a run reads: no model is loaded and no answer is made that nobody reads."""

    critic: bool
    greedy_baseline: bool
    groups: bool
    reward_parts: bool
    probability_squares: bool


def needs_of(config: PPOConfig) -> RunNeeds:
    """By the estimator's description; imports no estimator but one in a file of the user's."""
    needs = load_spec(PluginKind.ADVANTAGE_ESTIMATOR, config.algorithm.advantage).needs
    return RunNeeds(
        critic="critic" in needs,
        greedy_baseline="greedy_baseline" in needs,
        groups="groups" in needs,
        reward_parts="reward_parts" in needs,
        probability_squares="probability_squares" in needs,
    )


def check_algorithm(config: PPOConfig) -> None:
    """Raises `ConfigError` when the estimator or the loss does not go with the rest of the config."""
    algorithm, samples = config.algorithm, config.rollout.samples_per_prompt
    _check_loss(config)
    _check_free_options(algorithm)
    needs = needs_of(config)
    if needs.groups and samples < 2:
        raise ConfigError(
            f"algorithm.advantage = {algorithm.advantage} compares the answers to one prompt: "
            f"rollout.samples_per_prompt must be at least 2, got {samples}"
        )
    if algorithm.sampling_rounds > 1 and not needs.groups:
        raise ConfigError(
            f"algorithm.sampling_rounds = {algorithm.sampling_rounds} replaces prompts whose answers have equal rewards, from "
            f"which algorithm.advantage = {algorithm.advantage} does learn; leave it at 1, or choose an estimator that "
            "compares the answers to one prompt, such as grpo"
        )
    if needs.reward_parts and algorithm.kl_in_reward > 0:
        raise ConfigError(
            f"algorithm.advantage = {algorithm.advantage} compares the scores of the reward functions, which "
            f"kl_in_reward = {algorithm.kl_in_reward:g} would not reach; use algorithm.kl_loss"
        )
    if needs.reward_parts and config.reward.shapes_scores:
        raise ConfigError(
            f"algorithm.advantage = {algorithm.advantage} compares the scores of the reward functions, which reward.clip, "
            "reward.normalise and reward.overlong_penalty would not reach; drop these, or use another estimator"
        )
    if needs.probability_squares and config.rollout_correction.bypass:
        raise ConfigError(
            f"algorithm.advantage = {algorithm.advantage} reads the actor's probabilities of the rollouts, which "
            "rollout_correction.bypass = true leaves uncomputed; drop bypass"
        )
    if needs.critic and config.critic.warmup_iterations >= config.trainer.steps:
        raise ConfigError(
            f"critic.warmup_iterations = {config.critic.warmup_iterations} leaves the actor none of the "
            f"{config.trainer.steps} iterations (trainer.steps); raise the one or lower the other"
        )
    if algorithm.kl_target > 0 and algorithm.kl_horizon <= MAX_ERROR * config.samples_per_step:
        raise ConfigError(
            f"algorithm.kl_horizon = {algorithm.kl_horizon:g} is so short that the {config.samples_per_step} answers of one "
            f"iteration could take the KL coefficient to zero or below; it must be above {MAX_ERROR:g} x the answers"
        )
    if config.critic.shared_trunk and not needs.critic:
        raise ConfigError(
            f"critic.shared_trunk = true, but algorithm.advantage = {algorithm.advantage} reads no values; "
            "leave it out, or choose an estimator that does (gae)"
        )


def _check_loss(config: PPOConfig) -> None:
    """As `check_algorithm`, for the loss."""
    algorithm, correction = config.algorithm, config.rollout_correction
    spec = load_spec(PluginKind.POLICY_LOSS, algorithm.policy_loss)
    unknown = sorted(
        set(spec.aggregations) - set(get_args(AlgorithmSection.model_fields["loss_aggregation"].annotation))
    )
    if unknown:
        raise ConfigError(
            f"algorithm.policy_loss = {algorithm.policy_loss} says that it goes with the aggregation {unknown[0]}, "
            "which does not exist"
        )
    if spec.aggregations and algorithm.loss_aggregation not in spec.aggregations:
        raise ConfigError(
            f"algorithm.policy_loss = {algorithm.policy_loss} needs algorithm.loss_aggregation = "
            f"{' or '.join(spec.aggregations)}, got {algorithm.loss_aggregation}"
        )
    if spec.has_ratio and correction.bypass and correction.importance_weights != "none":
        raise ConfigError(
            f"algorithm.policy_loss = {algorithm.policy_loss} has the ratio to the engine's policy itself under "
            "rollout_correction.bypass: importance_weights would count it twice; drop them, or set "
            "algorithm.policy_loss = gpg"
        )


def _check_free_options(section: AlgorithmSection) -> None:
    """Options without a class are the parameters of a function, which has to be imported to know them.

    What stands in a file is imported anyway, so that one is also asked whether it can be called.
    """
    estimator, loss = section.advantage, section.policy_loss
    if is_reference(estimator) or (
        section.advantage_options and load_spec(PluginKind.ADVANTAGE_ESTIMATOR, estimator).config is None
    ):
        build_estimator(section)
    if is_reference(loss) or (section.policy_loss_options and load_spec(PluginKind.POLICY_LOSS, loss).config is None):
        build_policy_loss(section)


def build_estimator(section: AlgorithmSection) -> Estimator:
    """Raises `PluginError` for an estimator that cannot be loaded, `ConfigError` for options that it does not have."""
    from rlkit.algos.user_functions import make_estimator

    plugin = load_plugin(PluginKind.ADVANTAGE_ESTIMATOR, section.advantage)
    return make_estimator(plugin, section.advantage_options, where="algorithm.advantage_options")


def build_policy_loss(section: AlgorithmSection) -> PolicyLoss:
    """As `build_estimator`, for the loss."""
    from rlkit.algos.user_functions import make_policy_loss

    plugin = load_plugin(PluginKind.POLICY_LOSS, section.policy_loss)
    return make_policy_loss(plugin, section.policy_loss_options, where="algorithm.policy_loss_options")
