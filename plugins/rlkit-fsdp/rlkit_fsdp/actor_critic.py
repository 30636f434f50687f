"""Actor and critic on one network: a value head on the policy's last hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import ValueObjective
from rlkit.protocols import ReferenceModel
from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.micro_batches import split_by_tokens
from rlkit_fsdp.modules import PackedActorCritic, PackedCausalLM
from rlkit_fsdp.optimizer import Optimizer
from rlkit_fsdp.packed_rows import PackedRows, pack_rollouts, row_lengths
from rlkit_fsdp.totals import MetricTotals

HEAD_FILE = "score.safetensors"


class FSDPActorCritic:
    """The actor with a head of its own rate.

    One backward pass gives the gradients of both. They are clipped apart: errors in the returns, which the head's gradient
    is proportional to, would otherwise shorten the policy's step.
    """

    def __init__(self, role: ModelRole, *, head_lr: float) -> None:
        self.actor = FSDPActor(role)
        assert isinstance(self.actor.root, PackedCausalLM) and role.optimizer is not None
        self.role = role
        self.root = PackedActorCritic(self.actor.root)
        self.head_optimizer = Optimizer(self.root.score, replace(role.optimizer, lr=head_lr))

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return self.actor.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        def forward(rows: PackedRows) -> tuple[Tensor]:
            return (self.root.values(self.root.policy.hidden_states(rows)),)

        (values,) = forward_rows(rollouts, forward, budget=self.role.micro_batch_tokens, device=self.role.device)
        return values

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""

        def forward(rows: PackedRows) -> tuple[Tensor, ...]:
            statistics, values = self.root(rows, temperature, probability_squares=probability_squares)
            return values, *(tensor for tensor in statistics if tensor is not None)

        values, *statistics = forward_rows(
            rollouts, forward, budget=self.role.micro_batch_tokens, device=self.role.device
        )
        return LogProbs(*statistics), values

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step of trunk and head; see `rlkit.protocols.actor_critic.ActorCritic`."""
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )
        denominators = Denominators.of(experience.loss_mask.padded(False))
        totals = MetricTotals()
        for part, rows in self._micro_batches(experience):
            (log_probs, entropy, _), values = self.root(rows, temperature)
            if not objective.needs_entropy_gradient:
                entropy = entropy.detach()
            responses = part.rollouts.response_ids
            share = objective(
                responses.with_values(log_probs).padded(0.0),
                responses.with_values(entropy).padded(0.0),
                responses.with_values(values).padded(0.0),
                part,
                denominators,
            )
            share.loss.backward()  # type: ignore[no-untyped-call]
            totals.add(share.metrics)
        step, head_step = self.actor.optimizer.step(), self.head_optimizer.step()
        return {**totals.read(), **_under("actor", step), **_under("critic", head_step)}

    def update_head(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step of the head."""
        denominators = Denominators.of(experience.loss_mask.padded(False))
        totals = MetricTotals()
        for part, rows in self._micro_batches(experience):
            with torch.no_grad():
                hidden = self.root.policy.hidden_states(rows)
            values = part.rollouts.response_ids.with_values(self.root.values(hidden))
            share = objective(values.padded(0.0), part, denominators)
            share.loss.backward()  # type: ignore[no-untyped-call]
            totals.add(share.metrics)
        return {**totals.read(), **_under("critic", self.head_optimizer.step())}

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.actor.export_weights()

    def base_policy(self) -> ReferenceModel | None:
        return self.actor.base_policy()

    def save_adapter(self, folder: Path) -> None:
        self.actor.save_adapter(folder)

    def save(self, folder: Path) -> None:
        policy, head = folder / "policy", folder / "head"
        policy.mkdir()
        self.actor.save(policy)
        head.mkdir()
        save_file({"score.weight": self.root.score.weight.detach().cpu()}, head / HEAD_FILE)
        self.head_optimizer.save(head)

    def load(self, folder: Path) -> None:
        self.actor.load(folder / "policy")
        with torch.no_grad():
            self.root.score.weight.copy_(load_file(folder / "head" / HEAD_FILE)["score.weight"])
        self.head_optimizer.load(folder / "head")

    def onload(self) -> None:
        self.actor.onload()
        self.root.score.to(self.role.device)
        self.head_optimizer.move_state(self.role.device)

    def offload(self) -> None:
        if self.role.device != "cpu":
            self.root.score.to("cpu")
            self.head_optimizer.move_state("cpu")
        self.actor.offload()

    def _micro_batches(self, experience: Experience) -> Iterator[tuple[Experience, PackedRows]]:
        for rows in split_by_tokens(row_lengths(experience.rollouts), self.role.micro_batch_tokens):
            part = experience.select(rows)
            yield part, pack_rollouts(part.rollouts, self.role.device)


def _under(area: str, step: Mapping[str, float]) -> dict[str, float]:
    """An optimizer's numbers under the name of the part that it moves."""
    return {f"{area}/{name}": value for name, value in step.items()}
