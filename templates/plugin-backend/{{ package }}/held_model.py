"""What all roles share: a module on its device, forward passes over one row, saving and loading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead

from .optimizer import Optimizer


class HeldModel:
    """A module with the weights of `role.path`: frozen, or with float32 parameters for AdamW's small steps."""

    def __init__(self, role: ModelRole, head: ModelHead) -> None:
        self.role = role
        self.compute_dtype: torch.dtype = getattr(torch, role.dtype)
        trained = role.optimizer is not None
        self.module: Any = role.family.build(
            role.path,
            head=head,
            dtype=torch.float32 if trained else self.compute_dtype,
            device=role.device,
            trust_remote_code=role.trust_remote_code,
        )
        role.family.load_weights(self.module, role.path)
        # Evaluation mode in training too: with dropout, a policy's first update would start from ratios other than 1.
        self.module.eval().requires_grad_(trained)
        if trained and role.gradient_checkpointing:
            self.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            for layer in self.module.modules():
                if isinstance(layer, GradientCheckpointingLayer):
                    layer.training = True  # it recomputes in training mode only; what is inside it stays as it is

    def run(self, token_ids: Tensor) -> Any:
        """The module's output for one row `token_ids` [T]: causal, without padding."""
        mixed = self.compute_dtype != torch.float32
        device_type = torch.device(self.role.device).type
        with torch.autocast(device_type, dtype=self.compute_dtype if mixed else torch.bfloat16, enabled=mixed):
            return self.module(token_ids.to(self.role.device)[None], use_cache=False)

    def log_probs(self, token_ids: Tensor, start: int, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies, [T - start] float32, of the tokens from `start` (at least 1) on."""
        logits = self.run(token_ids).logits[0, start - 1 : -1].float() / temperature
        distribution = torch.log_softmax(logits, dim=-1)
        targets = token_ids[start:].to(logits.device)
        chosen = distribution.gather(1, targets[:, None])[:, 0]
        return chosen, -(distribution.exp() * distribution).sum(dim=-1)

    def onload(self) -> None:
        self.module.to(self.role.device)

    def offload(self) -> None:
        self.module.to("cpu")


class TrainedModel(HeldModel):
    """A held model with its optimizer."""

    def __init__(self, role: ModelRole, head: ModelHead) -> None:
        super().__init__(role, head)
        if role.optimizer is None:
            raise ValueError("a trained role needs optimizer settings")
        self.optimizer = Optimizer(self.module, role.optimizer)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.role.family.export_weights(self.module)

    def save(self, folder: Path) -> None:
        """Weights and optimizer under `folder`; no pickles, so that a checkpoint can never run code."""
        weights = folder / "weights"
        weights.mkdir()
        self.role.family.save(self.export_weights(), self.module.config, weights)
        self.optimizer.save(folder)

    def load(self, folder: Path) -> None:
        """What `save` wrote; the next step then gives the same bits."""
        self.role.family.load_weights(self.module, folder / "weights")
        self.optimizer.load(folder)
