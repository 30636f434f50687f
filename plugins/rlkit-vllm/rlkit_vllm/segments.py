"""Tensors on their way to another process: written into shared memory, as many at once as a limit of bytes allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.shared_memory import SharedMemory

import torch
from torch import Tensor

SEGMENT_BYTES = 256 * 2**20
"""Shared memory at once; a tensor larger than that gets a segment of its own size."""

ALIGNMENT = 64

TensorPlace = tuple[str, str, tuple[int, ...], int]
"""Name, torch type without its prefix, shape, offset in bytes."""


def written_segments(
    named_tensors: Iterable[tuple[str, Tensor]], *, segment_bytes: int = SEGMENT_BYTES
) -> Iterator[tuple[str, list[TensorPlace]]]:
    """Names of shared-memory segments, each with what lies in it; one exists only until the next is asked for."""
    places: list[TensorPlace] = []
    used = 0
    memory: SharedMemory | None = None
    try:
        for name, tensor in named_tensors:
            size = tensor.numel() * tensor.element_size()
            if memory is not None and used + size > memory.size:
                yield memory.name, places
                _remove(memory)
                memory, places, used = None, [], 0
            if memory is None:
                memory = SharedMemory(create=True, size=max(segment_bytes, size, 1))
            places.append((name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), used))
            _view(memory, places[-1]).copy_(tensor.detach())
            used += -(-size // ALIGNMENT) * ALIGNMENT
        if memory is not None:
            yield memory.name, places
    finally:
        if memory is not None:
            _remove(memory)


def read_segment(segment: str, places: Sequence[TensorPlace]) -> list[tuple[str, Tensor]]:
    """Copies of the tensors of a segment: it is written again while a layer still waits for the rest of its tensors."""
    memory = SharedMemory(segment)
    try:
        return [(place[0], _view(memory, place).clone()) for place in places]
    finally:
        memory.close()


def _view(memory: SharedMemory, place: TensorPlace) -> Tensor:
    _, dtype_name, shape, offset = place
    dtype: torch.dtype = getattr(torch, dtype_name)
    count = 1
    for length in shape:
        count *= length
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory.buf, dtype=dtype, count=count, offset=offset).view(shape)


def _remove(memory: SharedMemory) -> None:
    memory.close()
    memory.unlink()
