"""A reference that follows the policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from rlkit.models.state_files import BackgroundSave
from rlkit.protocols.actor import ModelRole
from rlkit_megatron.actor import MegatronReference
from rlkit_megatron.options import MegatronOptions
from rlkit_megatron.saving import WEIGHTS, State
from rlkit_megatron.weights import Held, Values


class MegatronMovingReference(MegatronReference):
    """Its weights are kept in float32 beside those that the role's arithmetic computes with.

    A moving average with decay 0.999 takes steps a thousand times smaller than the actor's: bfloat16's eight bits would
    lose them all.
    """

    def __init__(self, role: ModelRole, options: MegatronOptions) -> None:
        self._wide: dict[nn.Parameter, Tensor] = {}
        super().__init__(role, options)

    @torch.no_grad()
    def _take(self, values: Values) -> None:
        for parameter, value in values:
            if parameter not in self._wide:
                self._wide[parameter] = parameter.detach() if parameter.dtype == torch.float32 else value
            self._wide[parameter].copy_(value)
        self._round()

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        """See `rlkit.protocols.actor.MovingReference`."""

        def follow(held: Held, piece: Tensor) -> None:
            kept = self._wide[held.parameter]
            piece = piece.to(kept)
            held.place.write(kept, piece if decay == 0 else torch.lerp(held.place.read(kept), piece, 1 - decay))

        with self._on_device():
            self.weights.assign(named_tensors, where="the policy that the reference follows", write=follow)
            self._round()

    def state(self) -> State:
        with self._on_device():
            return State({WEIGHTS: self.weights.written_slices(self._wide.items())})

    def save(self, folder: Path) -> None:
        self.state().write(folder, self.parallel.rank)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return self.state().begin_writing(folder, self.parallel.rank)

    def load(self, folder: Path) -> None:
        with self._on_device():
            self._take(self.weights.restored(folder / WEIGHTS, otherwise="the saved reference is another model"))

    def _kept_tensors(self) -> Iterable[Tensor]:
        return (*super()._kept_tensors(), *self._wide.values())

    @torch.no_grad()
    def _round(self) -> None:
        """What the arithmetic computes with."""
        for parameter, kept in self._wide.items():
            if parameter.data_ptr() != kept.data_ptr():
                parameter.copy_(kept)
