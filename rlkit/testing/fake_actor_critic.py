"""A stand-in for actor and critic on one network: two numbers, with the trunk's gradient coming from both losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.testing.fakes import FakeActor, log_probs_of
from rlkit.types import Experience, Ragged, Rollouts

if TYPE_CHECKING:
    from rlkit.algos.joint_objective import JointObjective
    from rlkit.algos.objective import ValueObjective
    from rlkit.protocols.actor import LogProbs


class FakeActorCritic(FakeActor):
    """The one-number policy is the trunk; the value is `score * (1 + log_odds)` everywhere."""

    def __init__(self, lr: float = 1.0, head_lr: float = 0.5, log_odds: float = 0.0) -> None:
        super().__init__(lr, log_odds)
        self.score = torch.tensor(0.0, requires_grad=True)
        self.head_lr = head_lr
        self.forwards = 0

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        self.forwards += 1
        return super().compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        self.forwards += 1
        return _everywhere(self._value(self.parameter).detach(), rollouts)

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        policy = self.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)
        return policy, _everywhere(self._value(self.parameter).detach(), rollouts)

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> Mapping[str, float]:
        self.batch_sizes.append(len(experience))
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )
        responses = rollouts.response_ids
        log_probs = responses.with_values(log_probs_of(self.parameter / temperature, responses))
        entropy = responses.with_values(torch.zeros(responses.num_tokens))
        values = _everywhere(self._value(self.parameter), rollouts)
        share = objective(
            log_probs.padded(0.0), entropy.padded(0.0), values.padded(0.0), experience, _denominators(experience)
        )
        share.loss.backward()  # type: ignore[no-untyped-call]
        metrics = {name: float(value) for name, value in share.metrics.items()}
        return {**metrics, "actor/grad_norm": self.step(), "critic/grad_norm": self._step_head()}

    def update_head(self, experience: Experience, objective: ValueObjective) -> Mapping[str, float]:
        values = _everywhere(self._value(self.parameter.detach()), experience.rollouts)
        share = objective(values.padded(0.0), experience, _denominators(experience))
        share.loss.backward()  # type: ignore[no-untyped-call]
        metrics = {name: float(value) for name, value in share.metrics.items()}
        return {**metrics, "critic/grad_norm": self._step_head()}

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "score.json").write_text(json.dumps(self.score.item()))

    def load(self, folder: Path) -> None:
        super().load(folder)
        with torch.no_grad():
            self.score.fill_(json.loads((folder / "score.json").read_text()))

    def _value(self, log_odds: Tensor) -> Tensor:
        return self.score * (1 + log_odds)

    def _step_head(self) -> float:
        gradient = self.score.grad
        assert gradient is not None
        with torch.no_grad():
            self.score -= self.head_lr * gradient
        self.score.grad = None
        return float(gradient.abs())


def _everywhere(value: Tensor, rollouts: Rollouts) -> Ragged:
    responses = rollouts.response_ids
    return responses.with_values(value.expand(responses.num_tokens))


def _denominators(experience: Experience) -> Denominators:
    return Denominators.of(experience.loss_mask.padded(False))
