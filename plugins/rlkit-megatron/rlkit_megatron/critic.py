"""The value model in training."""

from __future__ import annotations

from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import share_of_packed
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_megatron.pipeline import LastHiddenStates
from rlkit_megatron.roles import TrainedModel


class MegatronCritic(TrainedModel):
    """Predicts the return from each position of a response."""

    head = "value"

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        (values,) = self.forward_rows(rollouts, lambda hidden: [self._values(hidden)], outputs=1)
        return values

    def update_values(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step on one mini-batch."""

        def share_of(hidden: LastHiddenStates, part: Experience, denominators: Denominators) -> ObjectiveShare:
            return share_of_packed(objective, part, denominators, self._values(hidden))

        metrics, empty = self.learn(experience, share_of)
        return {**metrics, **in_area("critic", self.optimizer.step(empty=empty))}

    def _values(self, hidden: LastHiddenStates) -> Tensor:
        values: Tensor = self.last_module.score(hidden.for_whole_head())
        return values
