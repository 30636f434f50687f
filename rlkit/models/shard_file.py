"""Writing one safetensors file tensor by tensor: what has come is on disk before the next one is asked for.

    8 bytes | header, filled up with spaces | tensors in the order in which they came

The header lists the tensors, and nobody knows how many will come: room is left for it. The tensors of a small file wait in
memory until it is complete, so it needs none.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rlkit.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HELD_BYTES = 2**24
"""Of tensors that wait for the others of a small file."""
HEADER_ROOM_BYTES = 2**20 - 8
"""Of a larger file, with whose 8 bytes the tensors begin at a whole MiB. More names than fit begin another file."""


class ShardFile:
    """A file that grows; `names` are those of its tensors so far. All errors of the disk are `ModelError`s."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self._num_bytes = 0
        self._header_bytes = 64
        self._held: dict[str, Tensor] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None

    def has_room_for(self, name: str, tensor: Tensor, max_bytes: int) -> bool:
        """Whether the file may take the tensor as well; an empty one takes any."""
        if not self.names:
            return True
        # Readers may view the file's bytes as the tensor's type, which has to begin at a multiple of its size.
        is_aligned = self._file is None or self._num_bytes % tensor.element_size() == 0
        fits = self._header_bytes + _entry_bytes(name, tensor) <= HEADER_ROOM_BYTES
        return is_aligned and fits and self._num_bytes + _size(tensor) <= max_bytes

    def add(self, name: str, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self.names.append(name)
        self._num_bytes += _size(tensor)
        self._header_bytes += _entry_bytes(name, tensor)
        with self._errors_as_ours():
            if self._file is not None:
                self._append(self._file, name, tensor)
                return
            self._held[name] = tensor.to("cpu").contiguous()
            if self._num_bytes > HELD_BYTES:
                self._begin()

    def finish(self) -> None:
        """Make the file a whole one."""
        from safetensors.torch import save_file

        with self._errors_as_ours():
            if self._file is None:
                save_file(self._held, self.path, metadata={"format": "pt"})
                self._held = {}
                return
            header = json.dumps({"__metadata__": {"format": "pt"}, **self._entries}).encode()
            self._file.seek(0)
            self._file.write(struct.pack("<Q", HEADER_ROOM_BYTES) + header.ljust(HEADER_ROOM_BYTES))
            self._file.close()

    def close(self) -> None:
        """Leave the file as it is."""
        self._held = {}
        if self._file is not None:
            with self._errors_as_ours():
                self._file.close()

    def _begin(self) -> None:
        self._file = self.path.open("wb")
        self._file.seek(8 + HEADER_ROOM_BYTES)
        # The largest types first: so all of them are aligned.
        for name, tensor in sorted(self._held.items(), key=lambda item: -item[1].element_size()):
            self._append(self._file, name, tensor)
        self._held = {}

    def _append(self, file: BinaryIO, name: str, tensor: Tensor) -> None:
        import torch

        start = file.tell() - 8 - HEADER_ROOM_BYTES
        if tensor.numel():
            file.write(tensor.to("cpu").contiguous().view(-1).view(torch.uint8).numpy().data)
        self._entries[name] = {
            "dtype": _dtype_name(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [start, start + _size(tensor)],
        }

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, SafetensorError) as error:  # whatever the system said, a full disk for one
            raise ModelError(f"weights could not be written to '{self.path.parent}': {error}") from error


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _entry_bytes(name: str, tensor: Tensor) -> int:
    """At most what the tensor's entry in the header takes: no number has more than 20 digits."""
    return len(json.dumps(name)) + 22 * (tensor.ndim + 2) + 64


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    """In safetensors' words."""
    import torch
    from safetensors.torch import save

    content = save({"": torch.empty(0, dtype=dtype)})
    (size,) = struct.unpack("<Q", content[:8])
    return str(json.loads(content[8 : 8 + size])[""]["dtype"])
