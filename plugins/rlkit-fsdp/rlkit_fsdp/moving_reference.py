"""A reference that follows the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from rlkit.models.causal import assign_weights
from rlkit.models.sharded import own_piece
from rlkit.models.state_files import BackgroundSave
from rlkit.protocols.actor import ModelRole
from rlkit_fsdp.actor import FSDPReference
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.roles import WEIGHTS, persistent_tensors
from rlkit_fsdp.saving import State, begin_writing, read_tensors, write_state


class FSDPMovingReference(FSDPReference):
    """Its parameters are float32 and its arithmetic the role's, as a trained actor's are.

    A moving average with decay 0.999 takes steps a thousand times smaller than the actor's: bfloat16's eight bits would
    lose them all. And a copy of the actor's weights gives the actor's log-probs, so that the KL is zero after a refresh.
    """

    def __init__(self, role: ModelRole, options: FSDPOptions | None = None) -> None:
        super().__init__(role, options, dtype=torch.float32)

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
            elif isinstance(mine, DTensor):
                part = mine.to_local()
                part = torch.lerp(part, own_piece(mine, tensor).to(part), 1 - decay)
                shape, stride = mine.shape, mine.stride()
                yield name, DTensor.from_local(part, mine.device_mesh, mine.placements, shape=shape, stride=stride)
            else:
                yield name, torch.lerp(mine, tensor.to(mine), 1 - decay)

    def state(self) -> State:
        return State({WEIGHTS: persistent_tensors(self.module)})

    def save(self, folder: Path) -> None:
        write_state(folder, self.state(), self.sharding.ranks)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return begin_writing(folder, self.state(), self.sharding.ranks)

    def load(self, folder: Path) -> None:
        read_tensors(
            folder / WEIGHTS, persistent_tensors(self.module), otherwise="the saved reference is another model"
        )
