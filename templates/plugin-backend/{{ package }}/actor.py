"""The policy in training, and a frozen one."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, PolicyObjective
from rlkit.algos.packed_objective import policy_share
from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.types import Experience, Rollouts

from .held_model import HeldModel, TrainedModel, learn_rows


@torch.no_grad()
def compute_log_probs(
    model: HeldModel, rollouts: Rollouts, temperature: float, *, probability_squares: bool = False
) -> LogProbs:
    """Of every response token, under softmax(logits / temperature)."""
    rows: list[tuple[Tensor, ...]] = []
    for prompt, response in zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True):
        rows.append(model.log_probs(torch.cat([prompt, response]), len(prompt), temperature))
    log_probs, entropy, squares = (
        rollouts.response_ids.with_values(torch.cat(column).cpu()) for column in zip(*rows, strict=True)
    )
    return LogProbs(log_probs, entropy, squares if probability_squares else None)


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

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return compute_log_probs(self, rollouts, temperature, probability_squares=probability_squares)

    def base_policy(self) -> None:
        """Without adapters there is no other policy inside this one."""

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step on one mini-batch."""
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )

        def share_of(row: Experience, denominators: Denominators) -> ObjectiveShare:
            prompt, response = row.rollouts.prompt_ids.values, row.rollouts.response_ids.values
            log_probs, entropy, _ = self.log_probs(torch.cat([prompt, response]), len(prompt), temperature)
            return policy_share(objective, row, denominators, log_probs, entropy)

        metrics, empty = learn_rows(experience, share_of)
        return {**metrics, **in_area("actor", self.optimizer.step(empty=empty))}
