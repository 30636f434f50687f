"""Models in supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlkit.protocols.saving import PendingSave
from rlkit.types.supervised import SupervisedBatch

if TYPE_CHECKING:
    from torch import Tensor


class SupervisedTrainee(Protocol):
    def update_supervised(self, batch: SupervisedBatch) -> Mapping[str, float]:
        """One optimizer step on the mean cross-entropy over the batch's loss tokens."""
        ...

    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        """Summed cross-entropy (nats) over the loss tokens, and how many there are."""
        ...

    def export_weights(self) -> Iterator[tuple[str, Tensor]]: ...

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter under `folder` (which exists and is empty) as peft opens it; only for a role with `lora`."""
        ...

    def save(self, folder: Path) -> None: ...

    def begin_save(self, folder: Path) -> PendingSave:
        """As `PolicyActor.begin_save`."""
        ...

    def load(self, folder: Path) -> None: ...
