"""The value model in training."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import ValueObjective
from rlkit.protocols.actor import ModelRole
from rlkit.types import Experience, Ragged, Rollouts

from .held_model import TrainedModel


class Critic(TrainedModel):
    """Predicts the return: value t is read where response token t is predicted, from everything before it."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(role, "value")

    @torch.no_grad()
    def compute_values(self, rollouts: Rollouts) -> Ragged:
        rows = [self._values(rollouts.select([index])).cpu() for index in range(len(rollouts))]
        return rollouts.response_ids.with_values(torch.cat(rows))

    def update_values(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step on one mini-batch."""
        denominators = Denominators.of(experience.loss_mask.padded(False))
        metrics: dict[str, float] = defaultdict(float)
        for index in range(len(experience)):
            row = experience.select([index])
            share = objective(self._values(row.rollouts)[None], row, denominators)
            share.loss.backward()
            for name, value in share.metrics.items():
                metrics[name] += float(value)
        return {**metrics, **{f"critic/{name}": value for name, value in self.optimizer.step().items()}}

    def _values(self, row: Rollouts) -> Tensor:
        """[R] float32 for a single row."""
        prompt, response = row.prompt_ids.values, row.response_ids.values
        values: Tensor = self.run(torch.cat([prompt, response]))[0]
        return values[len(prompt) - 1 : -1].float()
