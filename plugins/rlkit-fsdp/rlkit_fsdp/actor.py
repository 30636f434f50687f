"""The policy in training, and a frozen policy."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import PolicyObjective
from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.types import Experience, Rollouts
from rlkit_fsdp.forward import forward_rows
from rlkit_fsdp.lora import Adapter
from rlkit_fsdp.micro_batches import split_by_tokens
from rlkit_fsdp.modules import PackedCausalLM
from rlkit_fsdp.packed_rows import PackedRows, pack_rollouts, row_lengths
from rlkit_fsdp.roles import TrainedModel, build_module
from rlkit_fsdp.totals import MetricTotals


def _compute_log_probs(
    role: ModelRole, root: PackedCausalLM, rollouts: Rollouts, temperature: float, *, probability_squares: bool = False
) -> LogProbs:
    def forward(rows: PackedRows) -> tuple[Tensor, ...]:
        statistics = root(rows, temperature, probability_squares=probability_squares)
        return tuple(tensor for tensor in statistics if tensor is not None)

    return LogProbs(*forward_rows(rollouts, forward, budget=role.micro_batch_tokens, device=role.device))


class FSDPReference:
    """A frozen policy."""

    def __init__(self, role: ModelRole) -> None:
        self.role = role
        self.module = build_module(role, "causal_lm")
        self.root = PackedCausalLM(self.module, getattr(torch, role.dtype))

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return _compute_log_probs(self.role, self.root, rollouts, temperature)

    def onload(self) -> None:
        self.module.to(self.role.device)

    def offload(self) -> None:
        if self.role.device != "cpu":
            self.module.to("cpu")
            torch.cuda.empty_cache()


class FSDPActor(TrainedModel):
    """The policy in training."""

    def __init__(self, role: ModelRole) -> None:
        module = build_module(role, "causal_lm")
        super().__init__(role, module, PackedCausalLM(module, getattr(torch, role.dtype)))

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        assert isinstance(self.root, PackedCausalLM)
        return _compute_log_probs(self.role, self.root, rollouts, temperature, probability_squares=probability_squares)

    def base_policy(self) -> BasePolicy | None:
        return None if self.adapter is None else BasePolicy(self, self.adapter)

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step; see `rlkit.protocols.actor.PolicyActor`."""
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )
        denominators = Denominators.of(experience.loss_mask.padded(False))
        totals = MetricTotals()
        for rows in split_by_tokens(row_lengths(rollouts), self.role.micro_batch_tokens):
            part = experience.select(rows)
            log_probs, entropy, _ = self.root(pack_rollouts(part.rollouts, self.role.device), temperature)
            if not objective.needs_entropy_gradient:
                entropy = entropy.detach()
            responses = part.rollouts.response_ids
            share = objective(
                responses.with_values(log_probs).padded(0.0),
                responses.with_values(entropy).padded(0.0),
                part,
                denominators,
            )
            share.loss.backward()  # type: ignore[no-untyped-call]
            totals.add(share.metrics)
        step = self.optimizer.step()
        return {**totals.read(), **{f"actor/{name}": value for name, value in step.items()}}


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
