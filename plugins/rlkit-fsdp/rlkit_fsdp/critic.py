"""The value model in training."""

from __future__ import annotations

import torch

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import ValueObjective
from rlkit.protocols.actor import ModelRole
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.micro_batches import split_by_tokens
from rlkit_fsdp.modules import PackedValueModel
from rlkit_fsdp.packed_rows import pack_rollouts, row_lengths
from rlkit_fsdp.roles import TrainedModel, build_module
from rlkit_fsdp.totals import MetricTotals


class FSDPCritic(TrainedModel):
    """Predicts the return from each position of a response."""

    def __init__(self, role: ModelRole) -> None:
        module = build_module(role, "value")
        super().__init__(role, module, PackedValueModel(module, getattr(torch, role.dtype)))

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        (values,) = forward_rows(
            rollouts, lambda rows: (self.root(rows),), budget=self.role.micro_batch_tokens, device=self.role.device
        )
        return values

    def update_values(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step on one mini-batch."""
        denominators = Denominators.of(experience.loss_mask.padded(False))
        totals = MetricTotals()
        for rows in split_by_tokens(row_lengths(experience.rollouts), self.role.micro_batch_tokens):
            part = experience.select(rows)
            values = self.root(pack_rollouts(part.rollouts, self.role.device))
            share = objective(part.rollouts.response_ids.with_values(values).padded(0.0), part, denominators)
            share.loss.backward()  # type: ignore[no-untyped-call]
            totals.add(share.metrics)
        step = self.optimizer.step()
        return {**totals.read(), **{f"critic/{name}": value for name, value in step.items()}}
