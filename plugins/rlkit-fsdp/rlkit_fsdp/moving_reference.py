"""A reference that follows the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rlkit.models.causal import assign_weights
from rlkit.protocols.actor import ModelRole
from rlkit_fsdp.actor import FSDPReference
from rlkit_fsdp.modules import PackedCausalLM
from rlkit_fsdp.roles import build_module


class FSDPMovingReference(FSDPReference):
    """Its parameters are float32 and its arithmetic the role's, as a trained actor's are.

    A moving average with decay 0.999 takes steps a thousand times smaller than the actor's: bfloat16's eight bits would
    lose them all. And a copy of the actor's weights gives the actor's log-probs, so that the KL is zero after a refresh.
    """

    def __init__(self, role: ModelRole) -> None:
        self.role = role
        self.module = build_module(replace(role, dtype="float32"), "causal_lm")
        self.root = PackedCausalLM(self.module, getattr(torch, role.dtype))

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        tensors = named_tensors if decay == 0 else self._averaged(named_tensors, decay)
        assign_weights(self.module, tensors, where="the policy that the reference follows")

    @torch.no_grad()
    def _averaged(self, named_tensors: Iterable[tuple[str, Tensor]], decay: float) -> Iterator[tuple[str, Tensor]]:
        own = dict(self.role.family.export_weights(self.module))
        for name, tensor in named_tensors:
            mine = own.get(name)
            if mine is None or mine.shape != tensor.shape or not mine.is_floating_point():
                yield name, tensor  # where it does not fit, assigning it says what is wrong
            else:
                yield name, torch.lerp(mine, tensor.to(mine), 1 - decay)

    def save(self, folder: Path) -> None:
        self.role.family.save(self.role.family.export_weights(self.module), self.module.config, folder)

    def load(self, folder: Path) -> None:
        self.role.family.load_weights(self.module, folder)
