"""State on disk: safetensors in torch.distributed.checkpoint's layout. Nothing is pickled.

Each rank writes one file a folder with its parts of tensors; their places in the whole tensors are in the file's header,
where `torch.distributed.checkpoint.HuggingFaceStorageReader` looks for them. Writing needs no word between the ranks.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from rlkit.errors import CheckpointError

DCP_VERSION = "1.0"
SHARDING_INFO = "DCP_SHARDING_INFO"
"""Key of the header under which the places of the parts are."""
SAVED_OFFSETS, WHOLE_SHAPE = "saved_offsets", "whole_shape"
"""Keys of a part's place."""


def shard_path(folder: Path, rank: int) -> Path:
    """The file of one rank."""
    return folder / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"


def ranks_with_files(folder: Path) -> list[int]:
    """Those that have written into `folder`, ascending."""
    found = (re.match(r"shard-(\d+)-", path.name) for path in folder.glob("shard-*.safetensors"))
    return sorted(int(name[1]) - 1 for name in found if name)


def check_is_there(folder: Path) -> None:
    """Raises `CheckpointError` for a folder that this process does not see."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{socket.gethostname()} has no folder '{folder}'; run.output must be on a file system that every worker sees"
        )


@dataclass(frozen=True, eq=False)
class TensorPart:
    """A box of a tensor, contiguous on the CPU: where it starts in the whole tensor, and the shape of that."""

    values: Tensor
    offsets: Sequence[int]
    whole: Sequence[int]


@dataclass(frozen=True, eq=False)
class StateFile:
    """A rank's parts of tensors by name."""

    path: Path
    parts: Mapping[str, TensorPart]

    def write(self) -> None:
        # torch looks for the offsets only; from the shape rlkit knows when the last part of a tensor is missing.
        places = {
            name: {SAVED_OFFSETS: list(part.offsets), WHOLE_SHAPE: list(part.whole)}
            for name, part in self.parts.items()
        }
        metadata = {"format": "pt", "DCP_VERSION": DCP_VERSION, SHARDING_INFO: json.dumps(places)}
        save_file({name: part.values for name, part in self.parts.items()}, self.path, metadata=metadata)
        _sync(self.path)


class BackgroundSave:
    """Files that a thread writes. See `rlkit.protocols.PendingSave`."""

    def __init__(self, folder: Path, files: Sequence[StateFile], documents: Mapping[str, Any]) -> None:
        self._error: BaseException | None = None
        self._written: dict[str, int] = {}
        # A daemon: a process that is told to end does not wait for the disk, and half a checkpoint is recognised as one.
        self._thread = threading.Thread(
            target=self._run, args=(folder, files, documents), name="rlkit-save", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when the files are written; raises `CheckpointError` when that failed."""
        self._thread.join()
        if self._error is not None:
            raise CheckpointError(f"the state could not be written: {self._error}") from self._error

    def written(self) -> Mapping[str, int]:
        """See `rlkit.protocols.ListsFiles`."""
        return dict(self._written)

    def _run(self, folder: Path, files: Sequence[StateFile], documents: Mapping[str, Any]) -> None:
        try:
            write_files(folder, files, documents, written=self._written)
        except BaseException as error:
            self._error = error


def write_files(
    folder: Path,
    files: Sequence[StateFile],
    documents: Mapping[str, Any],
    *,
    written: dict[str, int] | None = None,
) -> None:
    """Write and sync `files`, and `documents` (JSON values by file name) under `folder`.

    written: where each is noted once it is done, its path below `folder` with its bytes.
    """
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.write()
        _note(file.path, folder, written)
    for name, value in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        _sync(path)
        _note(path, folder, written)


def _note(path: Path, folder: Path, written: dict[str, int] | None) -> None:
    if written is not None:
        written[path.relative_to(folder).as_posix()] = path.stat().st_size


def _sync(path: Path) -> None:
    """To disk: the file, and its name in the folder."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
