"""Prompts in, answers out: which prompts come next, and with which seed they are answered."""

from __future__ import annotations

from typing import Protocol

from rlkit.protocols import RolloutEngine
from rlkit.types import PromptBatch, Rollouts, SamplingParams


class Collector(Protocol):
    """How prompts become rollouts: `collect_rollouts` in one turn, `ConversationCollector` in several."""

    def __call__(self, engine: RolloutEngine, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        """`sampling.samples` rows for each prompt, next to each other, in the order of `prompts`."""
        ...


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for each step; steps of different runs do not share one by accident."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63


def collect_rollouts(engine: RolloutEngine, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
    """Answers to `prompts`, checked: every prompt answered `sampling.samples` times, no answer empty.

    Raises `ValueError` when the engine breaks its contract.
    """
    rollouts = engine.generate(prompts, sampling)
    expected = len(prompts) * sampling.samples
    if len(rollouts) != expected:
        raise ValueError(
            f"the rollout engine returned {len(rollouts)} answers to {len(prompts)} prompts x {sampling.samples} samples"
        )
    if int(rollouts.response_ids.lengths.min()) == 0:
        raise ValueError("the rollout engine returned an answer without tokens")
    return rollouts


def asked_prompts(rollouts: Rollouts) -> PromptBatch:
    """The prompts that were answered, once each, in the order of appearance."""
    first: dict[int, int] = {}
    for row, group in enumerate(rollouts.group_ids.tolist()):
        first.setdefault(group, row)
    token_ids = [row.tolist() for row in rollouts.prompt_ids.rows()]
    return PromptBatch(
        tuple(rollouts.prompts[row] for row in first.values()), tuple(tuple(token_ids[row]) for row in first.values())
    )
