"""The value model in training."""

from __future__ import annotations

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import share_of_packed
from rlkit.protocols.actor import ModelRole
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.modules import PackedValueModel
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.packed_rows import PackedRows
from rlkit_fsdp.roles import TrainedModel


class FSDPCritic(TrainedModel[PackedValueModel]):
    """Predicts the return from each position of a response."""

    def __init__(self, role: ModelRole, options: FSDPOptions | None = None) -> None:
        super().__init__(role, PackedValueModel, options)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        (values,) = forward_rows(
            rollouts,
            lambda rows: (self.root.values(rows),),
            budget=self.token_budget,
            sharding=self.sharding,
            root=self.root,
        )
        return values

    def update_values(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step on one mini-batch."""

        def share_of(part: Experience, rows: PackedRows, denominators: Denominators) -> ObjectiveShare:
            return share_of_packed(objective, part, denominators, self.root.values(rows))

        metrics, empty = self.learn(experience, share_of)
        return {**metrics, **in_area("critic", self.optimizer.step(empty=empty))}
