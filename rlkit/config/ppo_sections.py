"""Sections of a PPO run: its models, its rollouts and its loop."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rlkit.config.base import Section
from rlkit.config.fields import (
    InputPath,
    NonNegativeFloat,
    NonNegativeInt,
    PluginName,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
)
from rlkit.config.sections import OptimizedSection, SamplingSection


class ActorSection(OptimizedSection):
    """The policy in training."""

    backend: PluginName = "fsdp"
    """Actor backend plugin for all roles of the run."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The backend's own options; see `rlkit plugins show`."""
    lr: PositiveFloat = 1e-6
    """Peak learning rate of the policy."""


class CriticSection(OptimizedSection):
    """The value model; used only by advantage estimators that need one."""

    path: InputPath = ""
    """Folder or Hub id that the critic starts from; empty means the same as `model.path`."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate of the critic; usually larger than the actor's."""
    value_clip: PositiveFloat = 0.2
    """Predictions may move this far from their old value before the loss stops rewarding it (PPO's value clipping)."""
    warmup_iterations: NonNegativeInt = 0
    """First PPO iterations in which only the critic learns."""


class ReferenceSection(Section):
    """The frozen policy that the KL penalty is measured against; loaded only when a KL coefficient is above zero."""

    path: InputPath = ""
    """Folder or Hub id of the reference; empty means the same as `model.path`."""


class RolloutSection(SamplingSection):
    """How answers for training are made."""

    engine: PluginName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    prompts_per_step: PositiveInt = 64
    """Different prompts in one PPO iteration."""
    samples_per_prompt: PositiveInt = 4
    """Answers to each prompt; group baselines need at least two."""
    temperature: PositiveFloat = 1.0
    """Softmax temperature while training; greedy (0) would leave nothing to learn from."""


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
    save_rollouts: bool = True
    """Write each iteration's rollouts to `rollouts/` for inspection and replay."""


class ValidationSection(Section):
    """How answers for validation are drawn."""

    samples_per_prompt: PositiveInt = 1
    """Answers to each validation prompt."""
    temperature: NonNegativeFloat = 0.0
    """0 is greedy."""
    top_p: PositiveFraction = 1.0
    """Nucleus mass kept."""
    max_response_tokens: NonNegativeInt = 0
    """Longest answer in tokens; 0 means rollout.max_response_tokens."""
