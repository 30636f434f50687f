"""What all roles share: building a module from a `ModelRole`, moving it, saving and loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead
from rlkit_fsdp.optimizer import Optimizer


def build_module(role: ModelRole, head: ModelHead) -> Any:
    """The family's module with the folder's weights, ready for training or, without an optimizer, frozen.

    A trained module keeps its parameters in float32 whatever the arithmetic: AdamW's small steps would be lost in
    bfloat16's eight bits. It is in evaluation mode, so that dropout does nothing: a policy that gave other log-probs the
    second time would start its update from a ratio other than 1.
    """
    trained = role.optimizer is not None
    dtype = torch.float32 if trained else getattr(torch, role.dtype)
    module = role.family.build(
        role.path, head=head, dtype=dtype, device=role.device, trust_remote_code=role.trust_remote_code
    )
    role.family.load_weights(module, role.path)
    module.eval()
    if not trained:
        return module.requires_grad_(False)
    if role.gradient_checkpointing:
        _checkpoint_layers(module)
    return module


def _checkpoint_layers(module: Any) -> None:
    module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True  # it recomputes in training mode only; what is inside stays in evaluation mode


class TrainedModel:
    """A module with its optimizer, as every trained role has it."""

    def __init__(self, role: ModelRole, module: Any, root: nn.Module) -> None:
        if role.optimizer is None:
            raise ValueError("a trained role needs optimizer settings")
        self.role = role
        self.module = module
        self.root = root
        self.optimizer = Optimizer(module, role.optimizer)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.role.family.export_weights(self.module)

    def save(self, folder: Path) -> None:
        weights = folder / "weights"
        weights.mkdir()
        self.role.family.save(self.export_weights(), self.module.config, weights)
        self.optimizer.save(folder)

    def load(self, folder: Path) -> None:
        self.role.family.load_weights(self.module, folder / "weights")
        self.optimizer.load(folder)

    def onload(self) -> None:
        self.module.to(self.role.device)
        self.optimizer.move_state(self.role.device)

    def offload(self) -> None:
        if self.role.device != "cpu":
            self.module.to("cpu")
            self.optimizer.move_state("cpu")
            torch.cuda.empty_cache()
