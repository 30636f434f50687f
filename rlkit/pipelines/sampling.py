"""From the sections of a project to how answers are drawn."""

from __future__ import annotations

from rlkit.config.generation_section import GenerationSection
from rlkit.config.ppo_sections import RolloutSection
from rlkit.config.runs import PPOConfig
from rlkit.types import SamplingParams


def sampling_of(section: GenerationSection | RolloutSection, *, seed: int = 0) -> SamplingParams:
    """What a section says; training gives each step a seed of its own."""
    return SamplingParams(
        max_tokens=section.max_response_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=section.top_k,
        min_p=section.min_p,
        repetition_penalty=section.repetition_penalty,
        samples=section.samples_per_prompt,
        seed=seed,
        stop=section.stop,
        stop_token_ids=section.stop_token_ids,
    )


def validation_sampling(config: PPOConfig) -> SamplingParams:
    """Drawn as `[validation]` says; an answer ends where it does in training."""
    section, rollout = config.validation, config.rollout
    return SamplingParams(
        max_tokens=section.max_response_tokens or rollout.max_response_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        samples=section.samples_per_prompt,
        seed=config.run.seed,
        stop=rollout.stop,
        stop_token_ids=rollout.stop_token_ids,
    )
