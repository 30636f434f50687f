"""Supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rlkit.algos.metric_totals import in_area
from rlkit.data.silent_rows import silent_conversation
from rlkit.types import SupervisedBatch
from rlkit_megatron.packed_rows import PackedRows, pack_conversations
from rlkit_megatron.pipeline import LastHiddenStates
from rlkit_megatron.roles import TrainedModel


class MegatronSupervised(TrainedModel):
    """Learns to say what the assistant said."""

    def update_supervised(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on the mean cross-entropy over the loss tokens of all shares of the rows."""
        batches, count = self._micro_batches(batch)
        tokens = max(1, count)
        losses: list[Tensor] = []

        def compute_loss(hidden: LastHiddenStates, _: int) -> Tensor:
            loss = self._cross_entropy(hidden) / tokens
            losses.append(loss.detach().clone())
            return loss

        self.pipeline.forward_backward(batches, compute_loss)
        (loss,) = self.parallel.sums_over_rows([sum(map(float, losses))])
        return {"sft/loss": loss, **in_area("sft", self.optimizer.step(empty=count == 0))}

    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        """Summed cross-entropy (nats) over the loss tokens of all shares of the rows, and how many there are."""
        batches, count = self._micro_batches(batch)
        found = self.pipeline.forward(batches, lambda hidden, _: float(self._cross_entropy(hidden)))
        (total,) = self.parallel.sums_over_rows([sum(found)])
        return total, count

    def save_adapter(self, folder: Path) -> None:
        """There is none."""
        raise ValueError("the role has no adapter")

    def _cross_entropy(self, hidden: LastHiddenStates) -> Tensor:
        return -self.statistics(hidden, 1.0).log_probs.sum(dtype=torch.float64)

    def _micro_batches(self, batch: SupervisedBatch) -> tuple[list[PackedRows], int]:
        (count,) = self.parallel.sums_over_rows([float(batch.num_loss_tokens)])
        rows = self.micro_batches(batch.token_ids.lengths.tolist())
        parts = [batch.select(chosen) if chosen else silent_conversation(batch) for chosen in rows]
        multiple = self.token_multiple
        return [pack_conversations(part, self.parallel.device, multiple=multiple) for part in parts], int(count)
