"""Actor and critic on one network: a value head on the policy's last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import policy_share, share_of_packed
from rlkit.models.state_files import BackgroundSave
from rlkit.protocols import ReferenceModel
from rlkit.protocols.actor import LogProbs, ModelRole, OptimizerSettings
from rlkit.types import Experience, Ragged, Rollouts
from rlkit.types.adapter import AdapterWeights
from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.modules import PackedActorCritic
from rlkit_fsdp.optimizer import Optimizer
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.packed_rows import PackedRows
from rlkit_fsdp.roles import WEIGHTS
from rlkit_fsdp.saving import State, begin_writing, read_tensors, write_state


class FSDPActorCritic:
    """The actor with a head that has an optimizer of its own.

    One backward pass gives the gradients of both. They are clipped apart: errors in the returns, which the head's gradient
    is proportional to, would otherwise shorten the policy's step.
    """

    def __init__(self, role: ModelRole, *, head: OptimizerSettings, options: FSDPOptions | None = None) -> None:
        self.role = role
        self.actor = FSDPActor(role, options)
        self.sharding = self.actor.sharding
        self.root = PackedActorCritic(self.actor.root, torch.device(role.device))
        self.sharding.spread(self.root.score, torch.float32)
        self.head_optimizer = Optimizer(self.root.score, head)

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return self.actor.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        def forward(rows: PackedRows) -> tuple[Tensor]:
            return (self.root.values(self.root.policy.hidden_states(rows)),)

        (values,) = self._forward_rows(rollouts, forward)
        return values

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""

        def forward(rows: PackedRows) -> tuple[Tensor, ...]:
            statistics, values = self.root.statistics_and_values(
                rows, temperature, probability_squares=probability_squares
            )
            return values, *(tensor for tensor in statistics if tensor is not None)

        values, *statistics = self._forward_rows(rollouts, forward)
        return LogProbs(*statistics), values

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step of trunk and head; see `rlkit.protocols.actor_critic.ActorCritic`."""
        rollouts = experience.rollouts
        experience = objective.prepare(experience, lambda: self.actor.present_log_probs(rollouts, temperature))

        def share_of(part: Experience, rows: PackedRows, denominators: Denominators) -> ObjectiveShare:
            (log_probs, entropy, _), values = self.root.statistics_and_values(rows, temperature)
            return policy_share(objective, part, denominators, log_probs, entropy, values)

        metrics, empty = self.actor.learn(experience, share_of, self.root.score)
        step, head_step = self.actor.optimizer.step(empty=empty), self.head_optimizer.step(empty=empty)
        return {**metrics, **in_area("actor", step), **in_area("critic", head_step)}

    def update_head(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step of the head."""

        def share_of(part: Experience, rows: PackedRows, denominators: Denominators) -> ObjectiveShare:
            with self.sharding.without_gradients(self.actor.root):
                hidden = self.root.policy.hidden_states(rows)
            return share_of_packed(objective, part, denominators, self.root.values(hidden))

        metrics, empty = self.actor.learn(experience, share_of, self.root.score)
        return {**metrics, **in_area("critic", self.head_optimizer.step(empty=empty))}

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.actor.export_weights()

    def base_policy(self) -> ReferenceModel | None:
        return self.actor.base_policy()

    def export_adapter(self) -> AdapterWeights | None:
        return self.actor.export_adapter()

    def save_adapter(self, folder: Path) -> None:
        self.actor.save_adapter(folder)

    def state(self) -> State:
        head = State({WEIGHTS: {"score.weight": self.root.score.weight}}).joined(self.head_optimizer.state())
        return self.actor.state().under("policy").joined(head.under("head"))

    def save(self, folder: Path) -> None:
        write_state(folder, self.state(), self.sharding.ranks)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return begin_writing(folder, self.state(), self.sharding.ranks)

    def load(self, folder: Path) -> None:
        self.actor.load(folder / "policy")
        score = {"score.weight": self.root.score.weight}
        read_tensors(folder / "head" / WEIGHTS, score, otherwise="the saved value head is of another model")
        self.head_optimizer.load(folder / "head")

    def onload(self) -> None:
        self.actor.onload()
        self._move_head(self.role.device)

    def offload(self) -> None:
        if self.role.device != "cpu":
            self._move_head("cpu")
        self.actor.offload()

    def _move_head(self, device: str) -> None:
        if not self.sharding.keeps_parameters_on_host:
            self.root.score.to(device)
            self.head_optimizer.move_state(device)

    def _forward_rows(
        self, rollouts: Rollouts, forward: Callable[[PackedRows], tuple[Tensor, ...]]
    ) -> tuple[Ragged, ...]:
        budget = self.actor.token_budget
        return forward_rows(rollouts, forward, budget=budget, sharding=self.sharding, root=self.root)
