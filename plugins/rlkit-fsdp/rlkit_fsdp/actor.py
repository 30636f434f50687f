"""The policy in training, and a frozen policy."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, PolicyObjective
from rlkit.algos.packed_objective import policy_share
from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.lora import Adapter
from rlkit_fsdp.modules import PackedCausalLM
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.packed_rows import PackedRows
from rlkit_fsdp.roles import HeldModel, TrainedModel


def _compute_log_probs(
    model: HeldModel[PackedCausalLM], rollouts: Rollouts, temperature: float, *, probability_squares: bool = False
) -> LogProbs:
    def forward(rows: PackedRows) -> tuple[Tensor, ...]:
        statistics = model.root.statistics(rows, temperature, probability_squares=probability_squares)
        return tuple(tensor for tensor in statistics if tensor is not None)

    budget = model.token_budget
    return LogProbs(*forward_rows(rollouts, forward, budget=budget, sharding=model.sharding, root=model.root))


class FSDPReference(HeldModel[PackedCausalLM]):
    """A frozen policy."""

    def __init__(
        self, role: ModelRole, options: FSDPOptions | None = None, *, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(role, PackedCausalLM, options, dtype=dtype)

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return _compute_log_probs(self, rollouts, temperature)


class FSDPActor(TrainedModel[PackedCausalLM]):
    """The policy in training."""

    def __init__(self, role: ModelRole, options: FSDPOptions | None = None) -> None:
        super().__init__(role, PackedCausalLM, options)

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return _compute_log_probs(self, rollouts, temperature, probability_squares=probability_squares)

    def base_policy(self) -> BasePolicy | None:
        return None if self.adapter is None else BasePolicy(self, self.adapter)

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step; see `rlkit.protocols.actor.PolicyActor`."""
        experience = objective.prepare(experience, lambda: self.present_log_probs(experience.rollouts, temperature))

        def share_of(part: Experience, rows: PackedRows, denominators: Denominators) -> ObjectiveShare:
            log_probs, entropy, _ = self.root.statistics(rows, temperature)
            return policy_share(objective, part, denominators, log_probs, entropy)

        metrics, empty = self.learn(experience, share_of)
        return {**metrics, **in_area("actor", self.optimizer.step(empty=empty))}

    def present_log_probs(self, rollouts: Rollouts, temperature: float) -> Ragged:
        """What a loss that chooses tokens looks at; on several ranks it comes too late here, on one rank's rows."""
        if self.sharding.ranks.size > 1:
            raise ValueError("this policy loss chooses tokens of the whole mini-batch: prepare it before it is spread")
        return self.compute_log_probs(rollouts, temperature=temperature).log_probs


class BasePolicy:
    """The policy as it was before its adapter learned anything: a reference without parameters of its own."""

    def __init__(self, actor: FSDPActor, adapter: Adapter) -> None:
        self._actor, self._adapter = actor, adapter

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        with self._adapter.switched_off():
            return self._actor.compute_log_probs(rollouts, temperature=temperature)

    def onload(self) -> None:
        self._actor.onload()

    def offload(self) -> None:
        """Nothing: the parameters are the actor's and leave with it."""
