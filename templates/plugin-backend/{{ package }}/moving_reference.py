"""A reference that follows the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rlkit.models.causal import assign_weights
from rlkit.protocols.actor import ModelRole
from rlkit.protocols.saving import FinishedSave

from .actor import Reference


class MovingReference(Reference):
    """Float32 parameters, so that the small steps of an average add up, and the actor's arithmetic."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(replace(role, dtype="float32"))
        self.compute_dtype = getattr(torch, role.dtype)

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        """weights = decay * weights + (1 - decay) * tensors."""
        assign_weights(self.module, self._averaged(named_tensors, decay), where="the policy")

    @torch.no_grad()
    def _averaged(self, named_tensors: Iterable[tuple[str, Tensor]], decay: float) -> Iterator[tuple[str, Tensor]]:
        own = dict(self.role.family.export_weights(self.module)) if decay > 0 else {}
        for name, tensor in named_tensors:
            yield name, torch.lerp(own[name], tensor, 1 - decay) if name in own else tensor

    def save(self, folder: Path) -> None:
        self.role.family.save(self.role.family.export_weights(self.module), self.module.config, folder)

    def begin_save(self, folder: Path) -> FinishedSave:
        self.save(folder)
        return FinishedSave()

    def load(self, folder: Path) -> None:
        self.role.family.load_weights(self.module, folder)
