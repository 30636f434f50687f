"""Critics: they predict the return from each position of a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlkit.protocols.saving import PendingSave
from rlkit.types.experience import Experience
from rlkit.types.ragged import Ragged
from rlkit.types.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.objective import ValueObjective


class Critic(Protocol):
    def compute_values(self, rollouts: Rollouts) -> Ragged:
        """float32, aligned with the responses: value t is predicted from everything before response token t."""
        ...

    def update_values(self, experience: Experience, objective: ValueObjective) -> Mapping[str, float]:
        """One optimizer step on one mini-batch; `experience.returns` and `old_values` are present."""
        ...

    def export_weights(self) -> Iterator[tuple[str, Tensor]]: ...

    def save(self, folder: Path) -> None: ...

    def begin_save(self, folder: Path) -> PendingSave:
        """As `PolicyActor.begin_save`."""
        ...

    def load(self, folder: Path) -> None: ...

    def onload(self) -> None: ...

    def offload(self) -> None: ...
