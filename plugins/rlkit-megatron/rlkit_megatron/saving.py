"""State on disk under Hugging Face names, whole tensors in slices, so that any layout reads it. Nothing is pickled.

parameters and moments, cut over processes --as slices of Hugging Face tensors--> files of this process
files of all processes --the slices that this process needs--> parameters and moments
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rlkit.errors import CheckpointError
from rlkit.models.state_files import BackgroundSave, StateFile, TensorPart, shard_path, write_files
from rlkit.models.state_slices import Slice, read_slices

WEIGHTS, MOMENTS_FOLDER, COUNTERS = "weights", "optimizer", "optimizer.json"
"""In a checkpoint."""
ADAPTER = "adapter"
"""In that of another backend: what is there in place of the weights."""


@dataclass(frozen=True)
class State:
    """A process's part of a state. tensors: copies by folder and name; documents: JSON values by file name, the same on
    every process."""

    tensors: Mapping[str, Mapping[str, TensorPart]]
    documents: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_whole(cls, tensors: Mapping[str, Mapping[str, Tensor]], documents: Mapping[str, Any]) -> State:
        """Of tensors that this process writes whole."""
        kept = {
            folder: {
                name: TensorPart(tensor.detach().to("cpu", copy=True), [0] * tensor.ndim, tensor.shape)
                for name, tensor in named.items()
            }
            for folder, named in tensors.items()
        }
        return cls(kept, documents)

    def joined(self, other: State) -> State:
        """Both; their folders and documents have different names."""
        return State({**self.tensors, **other.tensors}, {**self.documents, **other.documents})

    def under(self, folder: str) -> State:
        """The same, one folder deeper."""
        return State(
            {f"{folder}/{name}": tensors for name, tensors in self.tensors.items()},
            {f"{folder}/{name}": value for name, value in self.documents.items()},
        )

    def write(self, folder: Path, rank: int) -> None:
        write_files(folder, self._files(folder, rank), self._documents_of(rank))

    def begin_writing(self, folder: Path, rank: int) -> BackgroundSave:
        return BackgroundSave(folder, self._files(folder, rank), self._documents_of(rank))

    def _documents_of(self, rank: int) -> Mapping[str, Any]:
        return self.documents if rank == 0 else {}

    def _files(self, folder: Path, rank: int) -> list[StateFile]:
        return [StateFile(shard_path(folder / name, rank), parts) for name, parts in self.tensors.items() if parts]


@dataclass(frozen=True)
class Counters:
    """Of an optimizer. parameter_steps: that AdamW has taken, by Hugging Face name."""

    steps_done: int
    steps_skipped: int
    parameter_steps: Mapping[str, float]


def read_counters(folder: Path) -> Counters:
    """Raises `CheckpointError`."""
    path = folder / COUNTERS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Counters(found["steps_done"], found["steps_skipped"], found["parameter_steps"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"'{path}' cannot be read: {error}") from error


def read_whole(folder: Path, shapes: Mapping[str, tuple[int, ...]], *, otherwise: str) -> dict[str, Tensor]:
    """Whole tensors by name. Raises `CheckpointError` as `rlkit.models.state_slices.read_slices`."""
    wanted = {name: Slice([0] * len(shape), shape, shape) for name, shape in shapes.items()}
    return dict(read_slices(folder, wanted, otherwise=otherwise))
