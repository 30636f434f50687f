"""Sections of a PPO run: its models, its rollouts and its loop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlkit.config.base import Section
from rlkit.config.conversation_section import ConversationSection
from rlkit.config.fields import (
    BackendName,
    EngineName,
    InputPath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
)
from rlkit.config.sections import OptimizedSection


class ActorSection(OptimizedSection):
    """The policy in training."""

    backend: BackendName = "fsdp"
    """Actor backend plugin for all roles of the run."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The backend's own options; see `rlkit plugins show`."""
    lr: PositiveFloat = 1e-6
    """Peak learning rate of the policy."""


class CriticSection(OptimizedSection):
    """The value model; used only by advantage estimators that need one."""

    shared_trunk: bool = False
    """Predict values with a small head on the actor's own network: no second model, and one optimizer step teaches both. Of the keys below only `loss_weight`, `lr`, `value_clip` and `warmup_iterations` may then be set: the rest is the actor's."""
    loss_weight: PositiveFloat = 0.1
    """Weight of the value loss beside the policy loss; with `shared_trunk` only. Small, because errors in the returns would otherwise outweigh the policy gradient in the trunk."""
    path: InputPath = ""
    """Folder or Hub id that the critic starts from; empty means the same as `model.path`."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate of the critic (with `shared_trunk`, of the value head); usually larger than the actor's."""
    value_clip: PositiveFloat = 0.2
    """Predictions may move this far from their old value before the loss stops rewarding it (PPO's value clipping)."""
    warmup_iterations: NonNegativeInt = 0
    """First PPO iterations in which only the critic learns; with `shared_trunk` only its head."""

    def _changed(self) -> list[str]:
        """Keys that are not at their default; a config that was written out in full sets all of them."""
        fields = CriticSection.model_fields
        return [
            name
            for name, field in fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        ]

    @model_validator(mode="after")
    def _keys_fit_the_trunk(self) -> CriticSection:
        if not self.shared_trunk:
            if "loss_weight" in self._changed():
                raise ValueError(
                    f"critic.loss_weight = {self.loss_weight:g} has a meaning with critic.shared_trunk = true only"
                )
            return self
        unread = [name for name in self._changed() if name not in SHARED_TRUNK_KEYS]
        if unread:
            raise ValueError(
                f"critic.{', critic.'.join(unread)} cannot be set with critic.shared_trunk = true: "
                "the trunk is trained as the actor section says"
            )
        return self


SHARED_TRUNK_KEYS = frozenset({"shared_trunk", "loss_weight", "lr", "value_clip", "warmup_iterations"})
"""What is still the critic's own when its head stands on the actor's trunk."""


class ReferenceSection(Section):
    """The policy that the KL penalty is measured against; loaded only when a KL coefficient is above zero.

    It stays as it is unless `refresh_every` or `ema_decay` make it follow the actor.
    """

    path: InputPath = ""
    """Folder or Hub id of the reference; empty means the same as `model.path`. With `actor.lora` nothing is then loaded: the actor without its adapter is the reference."""
    refresh_every: NonNegativeInt = 0
    """Iterations after which the actor's present weights become the reference's, again and again; 0 never."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """After each iteration the reference becomes `ema_decay` x itself + (1 - `ema_decay`) x the actor; 0 leaves it alone."""

    @property
    def moves(self) -> bool:
        """Whether it follows the actor."""
        return self.refresh_every > 0 or self.ema_decay > 0

    @model_validator(mode="after")
    def _one_way_to_move(self) -> ReferenceSection:
        if self.refresh_every and self.ema_decay:
            raise ValueError(
                f"reference.refresh_every = {self.refresh_every} and reference.ema_decay = {self.ema_decay:g} are two "
                "ways for the reference to follow the actor; set one of them to 0"
            )
        return self


class RolloutSection(ConversationSection):
    """How answers for training are made."""

    engine: EngineName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    prompts_per_step: PositiveInt = 64
    """Different prompts in one PPO iteration."""
    samples_per_prompt: PositiveInt = 4
    """Answers to each prompt; group baselines need at least two."""
    temperature: PositiveFloat = 1.0
    """Softmax temperature while training; greedy (0) would leave nothing to learn from."""
    placement: Literal["in_process", "colocated", "standalone"] = "in_process"
    """Where the engine computes. in_process: in the actor's process and on its device, in each of its workers where it has any; colocated: replicas in processes of their own, on the actor's device; standalone: replicas on devices of their own."""
    replicas: PositiveInt = 1
    """Copies of the engine, each in a process of its own, that share the prompts; read unless placement is in_process."""
    devices_per_replica: PositiveInt = 1
    """GPUs of each replica; more than one needs an engine that can split a model, such as vllm."""

    @model_validator(mode="after")
    def _replicas_have_a_place(self) -> RolloutSection:
        if self.placement == "in_process":
            for name in ("replicas", "devices_per_replica"):
                if getattr(self, name) > 1:
                    raise ValueError(
                        f"rollout.{name} = {getattr(self, name)} with rollout.placement = in_process: one process holds "
                        "one engine on one device; set rollout.placement to standalone or colocated"
                    )
        return self


class TrainerSection(Section):
    """How long the run goes on and what it leaves behind."""

    steps: PositiveInt = 100
    """PPO iterations; each makes new rollouts."""
    validate_every: NonNegativeInt = 0
    """Iterations between validations; 0 validates at the end only (when there is validation data)."""
    validate_first: bool = True
    """Validate before the first update, so that the gain is known."""
    checkpoint_every: NonNegativeInt = 0
    """Iterations between checkpoints; 0 saves at the end and on Ctrl-C only."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept; older ones are deleted after a new one is whole."""
    background_checkpoints: bool = True
    """Write checkpoints while training goes on, from a copy of the state in host memory; off: training waits until each is whole."""
    on_checkpoint_error: Literal["stop", "go_on"] = "stop"
    """What a checkpoint does that cannot be written, on a full disk for one: end the run, or be warned about while training goes on. Those that are whole stay either way."""
    keep_best: bool = True
    """After a validation with the highest score so far, save a checkpoint and keep it beside the newest ones."""
    export: Literal["last", "best"] = "last"
    """Model that the run ends with in `model/`: that of the last step, or of the best validation."""
    save_rollouts: bool = True
    """Write each iteration's rollouts to `rollouts/` for inspection and replay, and each validation's answers to `validation/` for `rlkit eval`."""


class ValidationSection(Section):
    """How answers for validation are drawn."""

    samples_per_prompt: PositiveInt = 1
    """Answers to each validation prompt; several give pass@k and majority voting too, and need a temperature above 0."""
    temperature: NonNegativeFloat = 0.0
    """Softmax temperature; 0 is greedy."""
    top_p: PositiveFraction = 1.0
    """Nucleus mass kept."""
    max_response_tokens: NonNegativeInt = 0
    """Longest answer in tokens; 0 means rollout.max_response_tokens."""

    @model_validator(mode="after")
    def _several_answers_differ(self) -> ValidationSection:
        if self.samples_per_prompt > 1 and self.temperature == 0:
            raise ValueError(
                f"validation.samples_per_prompt = {self.samples_per_prompt} with validation.temperature = 0 gives "
                "equal answers; set a temperature above 0, or one sample"
            )
        return self
