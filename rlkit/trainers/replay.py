"""The update of a step once more, from its rollouts: the trainer's own methods, without an engine and without rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import torch

from rlkit.errors import TrainingError
from rlkit.tracking.rollouts_file import GreedyAnswers
from rlkit.tracking.stored_rollouts import StoredStep
from rlkit.trainers.clock import StageClock
from rlkit.trainers.judged import Judged
from rlkit.trainers.ppo import PPOTrainer
from rlkit.types import Experience, Ragged, Reward, Rollouts

Stage = Literal["answers", "experience", "critic", "actor", "reference"]
"""What a metric is a number of: the answers and verdicts themselves; log-probs, values and advantages before the update; the
update of one of the models."""

TIMING_AREAS = ("time", "time_per_token", "throughput", "perf", "memory")
TIMINGS = ("rollout/tokens_per_s",)
"""Metrics of the machine: a replay takes another time."""


class Absent:
    """Stands where a replay has no part: whatever is asked of it ends the replay."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> NoReturn:
        raise TrainingError(f"a replay has no {self._what}, and something has asked it for {name}")


@dataclass(frozen=True, eq=False)
class RepeatedUpdate:
    """metrics, by stage: those of `metrics.jsonl` that do not tell of time or memory."""

    experience: Experience
    metrics: Mapping[Stage, Mapping[str, float]]


def repeat_update(trainer: PPOTrainer, stored: StoredStep) -> RepeatedUpdate:
    """What `PPOTrainer.fit` does with the answers of its next step. Raises `TrainingError` when `stored` is of another one."""
    if stored.step != trainer.state.step + 1:
        raise TrainingError(f"the models have done {trainer.state.step} steps, the rollouts are of step {stored.step}")
    clock = StageClock()
    judged = Judged(stored.rollouts, stored.responses, stored.rewards)
    greedy = None if stored.greedy is None else greedy_answers(stored.rollouts, stored.greedy)
    clock.note_work("rollout", tokens=0)  # for the speed of an engine that does not run
    said = trainer.ask_models(judged.rollouts, clock)
    experience, prepared = trainer.prepare(judged, greedy, said, clock)
    critic = trainer.update_critic(experience, clock)
    actor = trainer.update_actor(experience, clock)
    reference = trainer.update_reference(clock)
    trainer.adapt_kl_coefficient(prepared, len(experience))
    trainer.state.step += 1
    answers = trainer.summarise(judged, {}, clock)
    stages: dict[Stage, dict[str, float]] = {
        "answers": answers, "experience": prepared, "critic": critic, "actor": actor, "reference": reference,
    }  # fmt: skip
    return RepeatedUpdate(experience, {stage: _comparable(metrics) for stage, metrics in stages.items()})


def greedy_answers(rollouts: Rollouts, greedy: GreedyAnswers) -> Judged:
    """The greedy answers as far as an update reads them: how long they are and what they scored, by group."""
    first: dict[int, int] = {}
    for row, group in enumerate(rollouts.group_ids.tolist()):
        first.setdefault(group, row)
    chosen = rollouts.select([first[group] for group in sorted(first)])
    lengths = torch.tensor(greedy.tokens, dtype=torch.int64)
    total = int(lengths.sum())
    answered = replace(
        chosen,
        response_ids=Ragged(torch.zeros(total, dtype=torch.int64), lengths),
        response_mask=Ragged(torch.ones(total, dtype=torch.bool), lengths),
        rollout_log_probs=None,
    )
    rewards = tuple(Reward(score, error=error) for score, error in zip(greedy.scores, greedy.errors, strict=True))
    return Judged(answered, ("",) * len(answered), rewards)


def is_timing(name: str) -> bool:
    """Whether a metric tells of the machine rather than of the update."""
    return name.partition("/")[0] in TIMING_AREAS or name in TIMINGS


def _comparable(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not is_timing(name)}
