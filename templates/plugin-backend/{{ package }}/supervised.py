"""Supervised fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.metric_totals import in_area
from rlkit.protocols.actor import ModelRole
from rlkit.types import SupervisedBatch

from .held_model import TrainedModel


class Supervised(TrainedModel):
    """Learns the tokens in the loss mask."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(role, "causal_lm")

    def update_supervised(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on the mean cross-entropy over the batch's loss tokens."""
        tokens = max(1, batch.num_loss_tokens)
        total = 0.0
        for index in range(len(batch)):
            share = self._cross_entropy(batch.select([index])) / tokens
            share.backward()
            total += float(share.detach())
        return {"sft/loss": total, **in_area("sft", self.optimizer.step(empty=batch.num_loss_tokens == 0))}

    @torch.no_grad()
    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        """Summed cross-entropy (nats) over the loss tokens, and how many there are."""
        total = sum(float(self._cross_entropy(batch.select([index]))) for index in range(len(batch)))
        return total, batch.num_loss_tokens

    def _cross_entropy(self, row: SupervisedBatch) -> Tensor:
        """Summed over the loss tokens of a single row."""
        log_probs, _, _ = self.log_probs(row.token_ids.values, 1, 1.0)
        return -log_probs[row.loss_mask.values[1:].to(log_probs.device)].sum()
