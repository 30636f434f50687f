"""Supervised fine-tuning."""

from __future__ import annotations

import torch

from rlkit.protocols.actor import ModelRole
from rlkit.types import SupervisedBatch
from rlkit_fsdp.micro_batches import split_by_tokens
from rlkit_fsdp.modules import PackedCausalLM
from rlkit_fsdp.packed_rows import pack_conversations
from rlkit_fsdp.roles import TrainedModel, build_module


class FSDPSupervised(TrainedModel):
    """Learns to say what the assistant said."""

    def __init__(self, role: ModelRole) -> None:
        module = build_module(role, "causal_lm")
        super().__init__(role, module, PackedCausalLM(module, getattr(torch, role.dtype)))

    def update_supervised(self, batch: SupervisedBatch) -> dict[str, float]:
        """One optimizer step on the mean cross-entropy over the batch's loss tokens."""
        tokens = max(1, batch.num_loss_tokens)
        loss = 0.0
        for rows in self._micro_batches(batch):
            log_probs, _, _ = self.root(pack_conversations(batch.select(rows), self.role.device), 1.0)
            share = -log_probs.sum() / tokens
            share.backward()
            loss += float(share.detach())
        step = self.optimizer.step()
        return {"sft/loss": loss, **{f"sft/{name}": value for name, value in step.items()}}

    @torch.no_grad()
    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        """Summed cross-entropy (nats) over the loss tokens, and how many there are."""
        total = 0.0
        for rows in self._micro_batches(batch):
            log_probs, _, _ = self.root(pack_conversations(batch.select(rows), self.role.device), 1.0)
            total -= float(log_probs.double().sum())
        return total, batch.num_loss_tokens

    def _micro_batches(self, batch: SupervisedBatch) -> list[list[int]]:
        return split_by_tokens(batch.token_ids.lengths.tolist(), self.role.micro_batch_tokens)
