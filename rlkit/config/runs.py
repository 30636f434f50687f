"""One class for each kind of run: what its project file may contain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from rlkit.config.algorithm import AlgorithmSection
from rlkit.config.base import Section
from rlkit.config.cluster_section import ClusterSection
from rlkit.config.correction_presets import fill_preset
from rlkit.config.evaluation_section import EvaluationGenerationSection, EvaluationSection
from rlkit.config.generation_section import GenerationSection
from rlkit.config.placement_section import PlacementSection, PPOPlacementSection
from rlkit.config.ppo_sections import (
    ActorSection,
    CriticSection,
    ReferenceSection,
    RolloutSection,
    TrainerSection,
    ValidationSection,
)
from rlkit.config.reward_sections import EvaluationRewardSection, TrainingRewardSection
from rlkit.config.rollout_correction import RolloutCorrectionSection
from rlkit.config.sections import (
    ModelSection,
    ProcessSection,
    PromptDataSection,
    RunSection,
    SFTDataSection,
    SFTSection,
    SFTTrainerSection,
    TrainingRunSection,
)
from rlkit.config.serve_section import ServeSection
from rlkit.config.task_options import refuse_what_tasks_ignore


def refuse_float16(model: ModelSection) -> None:
    """Raises `ValueError` for a type whose gradients vanish: each is divided by the mini-batch's tokens, and float16 ends at 6e-8."""
    if model.dtype == "float16":
        raise ValueError(
            'model.dtype = "float16" loses small gradients; train in "bfloat16" or "float32" (float16 is for generation)'
        )


BEST_IS_UNKNOWN = (
    "trainer.export = best needs validations to choose from: set data.validation, a trainer.validate_every above 0 and "
    "trainer.keep_best = true"
)


class SFTConfig(Section):
    """`rlkit sft`"""

    run: TrainingRunSection = Field(default_factory=TrainingRunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    data: SFTDataSection = Field(default_factory=SFTDataSection)
    sft: SFTSection = Field(default_factory=SFTSection)
    trainer: SFTTrainerSection = Field(default_factory=SFTTrainerSection)
    placement: PlacementSection = Field(default_factory=PlacementSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)

    @model_validator(mode="after")
    def _can_be_trained(self) -> SFTConfig:
        refuse_float16(self.model)
        return self

    @model_validator(mode="after")
    def _best_is_known(self) -> SFTConfig:
        trainer = self.trainer
        if trainer.export == "best" and not (self.data.validation and trainer.validate_every and trainer.keep_best):
            raise ValueError(BEST_IS_UNKNOWN)
        return self


class PPOConfig(Section):
    """`rlkit train ppo`"""

    run: TrainingRunSection = Field(default_factory=TrainingRunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    data: PromptDataSection = Field(default_factory=PromptDataSection)
    rollout: RolloutSection = Field(default_factory=RolloutSection)
    reward: TrainingRewardSection = Field(default_factory=TrainingRewardSection)
    algorithm: AlgorithmSection = Field(default_factory=AlgorithmSection)
    rollout_correction: RolloutCorrectionSection = Field(default_factory=RolloutCorrectionSection)
    actor: ActorSection = Field(default_factory=ActorSection)
    critic: CriticSection = Field(default_factory=CriticSection)
    reference: ReferenceSection = Field(default_factory=ReferenceSection)
    validation: ValidationSection = Field(default_factory=ValidationSection)
    trainer: TrainerSection = Field(default_factory=TrainerSection)
    placement: PPOPlacementSection = Field(default_factory=PPOPlacementSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)

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
    def uses_reference(self) -> bool:
        return self.algorithm.kl_in_reward > 0 or self.algorithm.kl_loss > 0

    @property
    def base_is_reference(self) -> bool:
        """Whether the actor without its adapter is the reference, so that none is loaded."""
        section = self.reference
        return self.uses_reference and self.actor.lora.rank > 0 and not section.path and not section.moves

    @model_validator(mode="before")
    @classmethod
    def _with_correction_preset(cls, values: Any) -> Any:
        return fill_preset(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _can_be_trained(self) -> PPOConfig:
        refuse_float16(self.model)
        return self

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
    def _overlong_buffer_fits(self) -> PPOConfig:
        buffer, limit = self.reward.overlong_buffer_tokens, self.rollout.max_response_tokens
        if buffer > limit:
            raise ValueError(
                f"reward.overlong_buffer_tokens = {buffer} is more than an answer may have: "
                f"rollout.max_response_tokens is {limit}"
            )
        return self

    @model_validator(mode="after")
    def _algorithm_fits(self) -> PPOConfig:
        algorithm = self.algorithm
        if algorithm.horizon > 0 and algorithm.loss_aggregation != "seq_mean_token_sum_norm":
            raise ValueError(
                f"algorithm.horizon = {algorithm.horizon} divides seq_mean_token_sum_norm only, and "
                f"algorithm.loss_aggregation is {algorithm.loss_aggregation}"
            )
        if algorithm.kl_target > 0 and algorithm.kl_in_reward == 0:
            raise ValueError(
                f"algorithm.kl_target = {algorithm.kl_target:g} needs algorithm.kl_in_reward above 0 to start from"
            )
        return self

    @model_validator(mode="after")
    def _best_is_known(self) -> PPOConfig:
        trainer = self.trainer
        if trainer.export == "best" and not (self.data.validation and trainer.validate_every and trainer.keep_best):
            raise ValueError(BEST_IS_UNKNOWN)
        return self

    @model_validator(mode="after")
    def _moving_reference_is_read(self) -> PPOConfig:
        if self.reference.moves and not (self.algorithm.kl_in_reward > 0 or self.algorithm.kl_loss > 0):
            key = "refresh_every" if self.reference.refresh_every else "ema_decay"
            raise ValueError(
                f"reference.{key} = {getattr(self.reference, key):g} moves a reference that nothing reads; "
                "set algorithm.kl_in_reward or algorithm.kl_loss above 0"
            )
        return self


class GenerateConfig(Section):
    """`rlkit generate`"""

    run: RunSection = Field(default_factory=RunSection)
    model: ModelSection = Field(default_factory=ModelSection)
    generation: GenerationSection = Field(default_factory=GenerationSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)


class ServeConfig(Section):
    """`rlkit serve`"""

    run: ProcessSection = Field(default_factory=ProcessSection)
    model: ModelSection = Field(default_factory=ModelSection)
    serve: ServeSection = Field(default_factory=ServeSection)


class EvalConfig(Section):
    """`rlkit eval`"""

    run: RunSection = Field(default_factory=RunSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    reward: EvaluationRewardSection = Field(default_factory=EvaluationRewardSection)
    model: ModelSection = Field(default_factory=ModelSection)
    generation: EvaluationGenerationSection = Field(default_factory=EvaluationGenerationSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)

    @property
    def models(self) -> tuple[str, ...]:
        """Models that are named; checkpoints come besides."""
        return self.evaluation.models or ((self.model.path,) if self.model.path else ())

    @property
    def asks_models(self) -> bool:
        return bool(self.models or self.evaluation.checkpoints)

    @model_validator(mode="after")
    def _models_are_asked_something(self) -> EvalConfig:
        section, generation = self.evaluation, self.generation
        if generation.prompts and section.tasks:
            raise ValueError("evaluation.tasks bring their own prompts; leave generation.prompts empty")
        if generation.prompts and not self.asks_models:
            raise ValueError("generation.prompts are for models, and none is named; give --model or --checkpoints")
        if self.asks_models and not generation.prompts and not section.tasks:
            raise ValueError(
                "models are to be evaluated, but on what? Give generation.prompts (--prompts) or evaluation.tasks (--tasks)"
            )
        if section.models and self.model.path:
            raise ValueError(
                f"evaluation.models names {len(section.models)} models and model.path = {self.model.path!r} one more; put all "
                "of them into evaluation.models"
            )
        return self

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> EvalConfig:
        refuse_what_tasks_ignore(self)
        return self

    @model_validator(mode="after")
    def _answers_differ(self) -> EvalConfig:
        section = self.generation
        if section.samples_per_prompt > 1 and section.temperature == 0:
            raise ValueError(
                f"generation.samples_per_prompt = {section.samples_per_prompt} at generation.temperature = 0 gives the same "
                "answer every time; set a temperature above 0"
            )
        return self


RUN_CONFIGS: dict[str, type[Section]] = {
    "sft": SFTConfig,
    "ppo": PPOConfig,
    "generate": GenerateConfig,
    "serve": ServeConfig,
    "eval": EvalConfig,
}
"""Every kind of run, by the word used in `rlkit config`."""
