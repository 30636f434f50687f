"""What all roles share: building a module from a `ModelRole`, moving it, saving and loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from rlkit.errors import CheckpointError
from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead
from rlkit_fsdp.lora import ADAPTER_FILE, Adapter
from rlkit_fsdp.optimizer import Optimizer


def build_module(role: ModelRole, head: ModelHead) -> Any:
    """The family's module with the folder's weights, ready for training or, without an optimizer, frozen.

    A trained module keeps its parameters in float32 whatever the arithmetic: AdamW's small steps would be lost in
    bfloat16's eight bits. One that gets an adapter is frozen itself, so it is held in the role's type. It is in evaluation
    mode, so that dropout does nothing: a policy that gave other log-probs the second time would start its update from a
    ratio other than 1.
    """
    trained = role.optimizer is not None
    dtype = torch.float32 if trained and role.lora is None else getattr(torch, role.dtype)
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
        self.adapter = None if role.lora is None else Adapter(module, role.lora, seed=role.seed)
        self.optimizer = Optimizer(module, role.optimizer)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        if self.adapter is None:
            yield from self.role.family.export_weights(self.module)
        else:
            yield from self.adapter.merged_weights(self.role.family)

    def save_adapter(self, folder: Path) -> None:
        """As peft opens it. Raises `ValueError` for a role without `lora`."""
        if self.adapter is None:
            raise ValueError("the role has no adapter")
        self.adapter.save_for_peft(folder)

    def save(self, folder: Path) -> None:
        if self.adapter is None:
            weights = folder / "weights"
            weights.mkdir()
            self.role.family.save(self.export_weights(), self.module.config, weights)
        else:
            self.adapter.save(folder)
        self.optimizer.save(folder)

    def load(self, folder: Path) -> None:
        """Raises `CheckpointError` when `folder` holds an adapter and the role has none, or the other way round."""
        if self.adapter is not None:
            self.adapter.load(folder)
        elif (folder / ADAPTER_FILE).exists():
            raise CheckpointError(f"'{folder}' holds an adapter only; resume with the lora settings of the run")
        else:
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
