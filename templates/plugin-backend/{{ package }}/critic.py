"""The value model in training."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import share_of_packed
from rlkit.protocols.actor import ModelRole
from rlkit.types import Experience, Ragged, Rollouts

from .held_model import TrainedModel, learn_rows


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

        def share_of(row: Experience, denominators: Denominators) -> ObjectiveShare:
            return share_of_packed(objective, row, denominators, self._values(row.rollouts))

        metrics, empty = learn_rows(experience, share_of)
        return {**metrics, **in_area("critic", self.optimizer.step(empty=empty))}

    def _values(self, row: Rollouts) -> Tensor:
        """[R] float32 for a single row."""
        prompt, response = row.prompt_ids.values, row.response_ids.values
        values: Tensor = self.run(torch.cat([prompt, response]))[0]
        return values[len(prompt) - 1 : -1].float()
