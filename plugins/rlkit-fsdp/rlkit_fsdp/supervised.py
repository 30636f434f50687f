"""Supervised fine-tuning."""

from __future__ import annotations

from rlkit.algos.metric_totals import in_area
from rlkit.data.micro_batches import split_by_tokens
from rlkit.data.silent_rows import silent_conversation
from rlkit.protocols.actor import ModelRole
from rlkit.types import SupervisedBatch
from rlkit_fsdp.modules import PackedCausalLM
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.packed_rows import PackedRows, pack_conversations
from rlkit_fsdp.roles import TrainedModel


class FSDPSupervised(TrainedModel[PackedCausalLM]):
    """Learns to say what the assistant said."""

    def __init__(self, role: ModelRole, options: FSDPOptions | None = None) -> None:
        super().__init__(role, PackedCausalLM, options)

    def update_supervised(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on the mean cross-entropy over the loss tokens of all ranks' batches."""
        batches, (count,) = self._micro_batches(batch)
        tokens = max(1, int(count))
        loss = 0.0
        for number, rows in enumerate(batches, start=1):
            with self.sharding.micro_batch(self.root, last=number == len(batches)):
                share = self.root.cross_entropy(self._packed(batch, rows)) / tokens
                self.sharding.scaled(share).backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        (loss,) = self.sharding.ranks.sums([loss])
        return {"sft/loss": loss, **in_area("sft", self.optimizer.step(empty=count == 0))}

    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        """Summed cross-entropy (nats) over the loss tokens of all ranks' batches, and how many there are."""
        batches, (count,) = self._micro_batches(batch)
        total = 0.0
        with self.sharding.without_gradients(self.root):
            for rows in batches:
                total += float(self.root.cross_entropy(self._packed(batch, rows)))
        (total,) = self.sharding.ranks.sums([total])
        return total, int(count)

    def _packed(self, batch: SupervisedBatch, rows: list[int]) -> PackedRows:
        part = batch.select(rows) if rows else silent_conversation(batch)
        return pack_conversations(part, self.role.device)

    def _micro_batches(self, batch: SupervisedBatch) -> tuple[list[list[int]], list[float]]:
        lengths = batch.token_ids.lengths.tolist()
        batches = split_by_tokens(lengths, self.token_budget)
        return self.sharding.ranks.agree(batches, (float(batch.num_loss_tokens),))
