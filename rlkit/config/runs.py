"""One class for each kind of run: what its project file may contain."""

from __future__ import annotations

from pydantic import Field, model_validator

from rlkit.config.algorithm import WITHOUT_GROUPS, AlgorithmSection
from rlkit.config.base import Section
from rlkit.config.ppo_sections import (
    ActorSection,
    CriticSection,
    ReferenceSection,
    RolloutSection,
    TrainerSection,
    ValidationSection,
)
from rlkit.config.reward_sections import EvaluationRewardSection, RewardSection
from rlkit.config.rollout_correction import RolloutCorrectionSection
from rlkit.config.sections import (
    EvaluationSection,
    GenerationSection,
    ModelSection,
    PromptDataSection,
    RunSection,
    SFTDataSection,
    SFTSection,
    SFTTrainerSection,
)


class SFTConfig(Section):
    """`rlkit sft`"""

    run: RunSection = Field(default_factory=RunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    data: SFTDataSection = Field(default_factory=SFTDataSection)
    sft: SFTSection = Field(default_factory=SFTSection)
    trainer: SFTTrainerSection = Field(default_factory=SFTTrainerSection)


class PPOConfig(Section):
    """`rlkit train ppo`"""

    run: RunSection = Field(default_factory=RunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    data: PromptDataSection = Field(default_factory=PromptDataSection)
    rollout: RolloutSection = Field(default_factory=RolloutSection)
    reward: RewardSection = Field(default_factory=RewardSection)
    algorithm: AlgorithmSection = Field(default_factory=AlgorithmSection)
    rollout_correction: RolloutCorrectionSection = Field(default_factory=RolloutCorrectionSection)
    actor: ActorSection = Field(default_factory=ActorSection)
    critic: CriticSection = Field(default_factory=CriticSection)
    reference: ReferenceSection = Field(default_factory=ReferenceSection)
    validation: ValidationSection = Field(default_factory=ValidationSection)
    trainer: TrainerSection = Field(default_factory=TrainerSection)

    @property
    def samples_per_step(self) -> int:
        return self.rollout.prompts_per_step * self.rollout.samples_per_prompt

    @property
    def mini_batch_samples(self) -> int:
        return self.algorithm.mini_batch_samples or self.samples_per_step

    @property
    def mini_batches(self) -> int:
        """Optimizer steps in one epoch over one iteration's rollouts."""
        return self.samples_per_step // self.mini_batch_samples

    @property
    def uses_critic(self) -> bool:
        return self.algorithm.advantage == "gae"

    @property
    def uses_greedy_baseline(self) -> bool:
        return self.algorithm.advantage == "remax"

    @property
    def uses_reference(self) -> bool:
        return self.algorithm.kl_in_reward > 0 or self.algorithm.kl_loss > 0

    @model_validator(mode="after")
    def _batch_arithmetic(self) -> PPOConfig:
        samples, mini = self.samples_per_step, self.mini_batch_samples
        if mini > samples or samples % mini:
            divisors = [d for d in range(1, samples + 1) if samples % d == 0]
            near = sorted(divisors, key=lambda d: abs(d - mini))[:3]
            raise ValueError(
                f"algorithm.mini_batch_samples = {mini} does not divide the {samples} samples of one step "
                f"(rollout.prompts_per_step {self.rollout.prompts_per_step} x rollout.samples_per_prompt "
                f"{self.rollout.samples_per_prompt}); near values that do: {', '.join(map(str, sorted(near)))}"
            )
        return self

    @model_validator(mode="after")
    def _algorithm_fits(self) -> PPOConfig:
        algorithm, samples = self.algorithm, self.rollout.samples_per_prompt
        if algorithm.advantage not in WITHOUT_GROUPS and samples < 2:
            raise ValueError(
                f"algorithm.advantage = {algorithm.advantage} compares the answers to one prompt: "
                f"rollout.samples_per_prompt must be at least 2, got {samples}"
            )
        if algorithm.sampling_rounds > 1 and samples < 2:
            raise ValueError(
                f"algorithm.sampling_rounds = {algorithm.sampling_rounds} compares the answers to one prompt: "
                f"rollout.samples_per_prompt must be at least 2, got {samples}"
            )
        if algorithm.kl_target > 0 and algorithm.kl_in_reward == 0:
            raise ValueError(
                f"algorithm.kl_target = {algorithm.kl_target:g} needs algorithm.kl_in_reward above 0 to start from"
            )
        if algorithm.advantage == "gdpo" and algorithm.kl_in_reward > 0:
            raise ValueError(
                "algorithm.advantage = gdpo compares the scores of the reward functions, which kl_in_reward = "
                f"{algorithm.kl_in_reward:g} would not reach; use algorithm.kl_loss"
            )
        if algorithm.policy_loss == "gmpo" and algorithm.loss_aggregation != "seq_mean_token_mean":
            raise ValueError(
                "algorithm.policy_loss = gmpo has one loss for each answer: set algorithm.loss_aggregation = "
                f"seq_mean_token_mean, got {algorithm.loss_aggregation}"
            )
        return self


class GenerateConfig(Section):
    """`rlkit generate`"""

    run: RunSection = Field(default_factory=RunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    generation: GenerationSection = Field(default_factory=GenerationSection)


class EvalConfig(Section):
    """`rlkit eval`"""

    run: RunSection = Field(default_factory=RunSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    reward: EvaluationRewardSection = Field(default_factory=EvaluationRewardSection)


RUN_CONFIGS: dict[str, type[Section]] = {
    "sft": SFTConfig,
    "ppo": PPOConfig,
    "generate": GenerateConfig,
    "eval": EvalConfig,
}
"""Every kind of run, by the word used in `rlkit config`."""
