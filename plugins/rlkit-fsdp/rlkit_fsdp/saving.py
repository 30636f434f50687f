"""State on disk: torch.distributed.checkpoint's safetensors layout, which loads on any number of ranks. Nothing is pickled.

    live tensors --stage: this rank's parts, in host memory--> files of this rank, written now or in a thread

Each rank writes one file a folder with its parts; their places in the whole tensors are in the file's header, where
`torch.distributed.checkpoint.HuggingFaceStorageReader` looks for them. Writing needs no word between the ranks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.tensor import DTensor

from rlkit.errors import CheckpointError
from rlkit.models.state_files import BackgroundSave, StateFile, TensorPart, shard_path, write_files
from rlkit.models.state_slices import check_shapes, saved_shapes
from rlkit_fsdp.ranks import Ranks


@dataclass(frozen=True, eq=False)
class State:
    """tensors by folder and name, sharded or not; documents are JSON values by file name, the same on every rank."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    documents: Mapping[str, Any] = field(default_factory=dict)

    def joined(self, other: State) -> State:
        """Both; their folders and documents have different names."""
        return State({**self.tensors, **other.tensors}, {**self.documents, **other.documents})

    def under(self, folder: str) -> State:
        """The same, one folder deeper."""
        return State(
            {f"{folder}/{name}": tensors for name, tensors in self.tensors.items()},
            {f"{folder}/{name}": value for name, value in self.documents.items()},
        )


def write_state(folder: Path, state: State, ranks: Ranks) -> None:
    """Write this rank's part of `state` under `folder`."""
    write_files(folder, _stage(folder, state, ranks, copied=False), state.documents if ranks.rank == 0 else {})


def begin_writing(folder: Path, state: State, ranks: Ranks) -> BackgroundSave:
    """Copy this rank's part of `state` and write the copy in the background."""
    files = _stage(folder, state, ranks, copied=True)
    return BackgroundSave(folder, files, state.documents if ranks.rank == 0 else {})


def read_tensors(folder: Path, targets: Mapping[str, Tensor], *, otherwise: str) -> None:
    """Fill `targets`, sharded or not, with what was saved under their names. Collective.

    Raises `CheckpointError` when names or shapes differ (`otherwise` says what that means and what to do), and when what
    a rank has written is missing.
    """
    if not targets:
        return
    saved = saved_shapes(folder)
    unknown = sorted(saved.keys() - targets.keys())
    if unknown:
        raise CheckpointError(f"{otherwise} ('{unknown[0]}' in '{folder}' is no tensor of it)")
    wanted = {name: tuple(tensor.shape) for name, tensor in targets.items()}
    check_shapes(folder, saved, wanted, otherwise=otherwise)
    # torch takes the parts that it finds for the whole, and would leave the rest of a target as it is.
    reader = HuggingFaceStorageReader(str(folder))
    alone = not dist.is_initialized()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # without a group it warns that it loads in one process, which is what we mean
        load_tensors(dict(targets), storage_reader=reader, no_dist=alone)


def _stage(folder: Path, state: State, ranks: Ranks, *, copied: bool) -> list[StateFile]:
    files: list[StateFile] = []
    for name, tensors in state.tensors.items():
        parts: dict[str, TensorPart] = {}
        for key, tensor in tensors.items():
            part = _part_to_write(tensor, ranks)
            if part is not None:
                values, offsets = part
                parts[key] = TensorPart(values.to("cpu", copy=copied).contiguous(), offsets, tensor.shape)
        if parts:
            files.append(StateFile(shard_path(folder / name, ranks.rank), parts))
    return files


def _part_to_write(tensor: Tensor, ranks: Ranks) -> tuple[Tensor, list[int]] | None:
    """This rank's part and where it starts in the whole; None when another rank writes it, or there is nothing."""
    if not isinstance(tensor, DTensor):
        return (tensor.detach(), [0] * tensor.ndim) if ranks.rank == 0 else None
    mesh = tensor.device_mesh
    is_a_copy = mesh.ndim > 1 and mesh.get_local_rank("replicate") > 0
    part = tensor.to_local().detach()
    if is_a_copy or part.numel() == 0:
        return None
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]
    return part, list(chunk.offsets)
