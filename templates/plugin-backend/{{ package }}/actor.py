"""The policy in training, and a frozen one."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import PolicyObjective
from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.types import Experience, Rollouts

from .held_model import HeldModel, TrainedModel


@torch.no_grad()
def compute_log_probs(model: HeldModel, rollouts: Rollouts, temperature: float) -> LogProbs:
    """Of every response token, under softmax(logits / temperature)."""
    log_probs: list[Tensor] = []
    entropies: list[Tensor] = []
    for prompt, response in zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True):
        chosen, entropy = model.log_probs(torch.cat([prompt, response]), len(prompt), temperature)
        log_probs.append(chosen.cpu())
        entropies.append(entropy.cpu())
    responses = rollouts.response_ids
    return LogProbs(responses.with_values(torch.cat(log_probs)), responses.with_values(torch.cat(entropies)))


class Reference(HeldModel):
    """A frozen policy."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(role, "causal_lm")

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return compute_log_probs(self, rollouts, temperature)


class Actor(TrainedModel):
    """The policy in training."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(role, "causal_lm")

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return compute_log_probs(self, rollouts, temperature)

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step on one mini-batch."""
        denominators = Denominators.of(experience.loss_mask.padded(False))
        metrics: dict[str, float] = defaultdict(float)
        for index in range(len(experience)):
            row = experience.select([index])
            prompt, response = row.rollouts.prompt_ids.values, row.rollouts.response_ids.values
            log_probs, entropy = self.log_probs(torch.cat([prompt, response]), len(prompt), temperature)
            if not objective.needs_entropy_gradient:
                entropy = entropy.detach()
            share = objective(log_probs[None], entropy[None], row, denominators)
            share.loss.backward()
            for name, value in share.metrics.items():
                metrics[name] += float(value)
        return {**metrics, **{f"actor/{name}": value for name, value in self.optimizer.step().items()}}

