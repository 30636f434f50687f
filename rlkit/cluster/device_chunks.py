"""Weights for replicas on the sender's own GPU: copied once there, and handed over as a CUDA IPC handle.

named tensors on the GPU --device_chunk--> one buffer on the GPU --(pickled: its handle)--> the same memory in the replica

The buffers live as long as the pool's state refers to them, since a replica that starts later reads them too: the weights
are then once more on the GPU. Where that leaves too little room they go through shared memory (`weight_chunks`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlkit.cluster.weight_chunks import ALIGNMENT_BYTES, TensorPlace, WeightChunk, weight_chunks

ROOM = 4
"""A buffer is made while at least this many times its size is free."""

_DEVICE_ARGUMENT = 6  # of torch.multiprocessing.reductions.rebuild_cuda_tensor: the GPU's number


class DeviceChunk:
    """Implements what `tensors_of` reads of a chunk; `data` [bytes] uint8 is on the GPU, in whatever process this is."""

    def __init__(self, places: tuple[TensorPlace, ...], data: Tensor) -> None:
        self.places = places
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        from torch.multiprocessing.reductions import reduce_tensor

        torch.cuda.synchronize(self.data.device)  # the replica's stream does not wait for the copies of this one
        rebuild, arguments = reduce_tensor(self.data)  # type: ignore[no-untyped-call]
        return _opened, (self.places, rebuild, arguments)


def _opened(places: tuple[TensorPlace, ...], rebuild: Callable[..., Tensor], arguments: Sequence[Any]) -> DeviceChunk:
    """In the replica, which sees one GPU and calls it number 0 whatever the sender does."""
    own = [*arguments]
    own[_DEVICE_ARGUMENT] = torch.cuda.current_device()
    return DeviceChunk(places, rebuild(*own))


def replica_chunks(
    named_tensors: Iterable[tuple[str, Tensor]],
    max_bytes: int,
    share: Callable[[WeightChunk], Any],
    *,
    device: str | None,
    free_bytes: Callable[[str], int] | None = None,
) -> Iterator[Any]:
    """Chunks of at most `max_bytes` (or of one larger tensor) for replicas: on `device`, if all of them are there too and it
    has room for now, else through `share`. None: they are elsewhere.

    free_bytes: of a device; by default what CUDA says.
    """
    if device is None or not handles_can_be_had():
        yield from map(share, weight_chunks(named_tensors, max_bytes))
        return
    free_bytes = free_bytes or _free_bytes
    for group, size in _groups(named_tensors, max_bytes):
        if all(str(tensor.device) == device for _, tensor in group) and free_bytes(device) >= ROOM * size:
            yield device_chunk(group, size)
        else:
            yield from map(share, weight_chunks(group, max_bytes))


def device_chunk(named_tensors: Sequence[tuple[str, Tensor]], size: int) -> DeviceChunk:
    """Copies of tensors of one device in one buffer of `size` bytes on it; each begins at a multiple of ALIGNMENT_BYTES."""
    data = torch.empty(size, dtype=torch.uint8, device=named_tensors[0][1].device)
    places, used = [], 0
    for name, tensor in named_tensors:
        places.append(TensorPlace(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), used))
        content = tensor.detach().contiguous().view(-1).view(torch.uint8)
        data[used : used + content.numel()] = content
        used += _aligned(content.numel())
    return DeviceChunk(tuple(places), data)


def handles_can_be_had() -> bool:
    """CUDA's expandable segments are memory of a kind that has none."""
    settings = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "") + os.environ.get("PYTORCH_ALLOC_CONF", "")
    return "expandable_segments:true" not in settings.replace(" ", "").lower()


def _groups(
    named_tensors: Iterable[tuple[str, Tensor]], max_bytes: int
) -> Iterator[tuple[list[tuple[str, Tensor]], int]]:
    """Tensors that go together, and the bytes that they take."""
    group: list[tuple[str, Tensor]] = []
    used = 0
    for name, tensor in named_tensors:
        size = _aligned(tensor.numel() * tensor.element_size())
        if group and used + size > max_bytes:
            yield group, used
            group, used = [], 0
        group.append((name, tensor))
        used += size
    if group:
        yield group, used


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _free_bytes(device: str) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
