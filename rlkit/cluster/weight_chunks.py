"""Weights as flat pieces of bounded size, which many processes can read from one place in shared memory.

named tensors --weight_chunks--> bytes + index --(shared memory)--> tensors_of --> the same named tensors, not copied
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class TensorPlace:
    """Where one tensor lies in a chunk: dtype as torch calls it, offset in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, eq=False)
class WeightChunk:
    """data [bytes] uint8 holds the tensors that `places` lists."""

    places: tuple[TensorPlace, ...]
    data: npt.NDArray[np.uint8]


def weight_chunks(named_tensors: Iterable[tuple[str, Tensor]], max_bytes: int) -> Iterator[WeightChunk]:
    """Pieces of at most `max_bytes`, or of one tensor that is larger.

    All share one buffer: a piece must have been copied before the next one is asked for.
    """
    buffer = torch.empty(max_bytes, dtype=torch.uint8)
    places: list[TensorPlace] = []
    used = 0
    for name, tensor in named_tensors:
        size = tensor.numel() * tensor.element_size()
        start = -(-used // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        if places and start + size > max_bytes:
            yield WeightChunk(tuple(places), buffer[:used].numpy())
            places, start = [], 0
        place = TensorPlace(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), start)
        if size > max_bytes:
            yield WeightChunk((place,), _as_bytes(tensor).numpy())
            used = 0
            continue
        buffer[start : start + size] = _as_bytes(tensor)
        places.append(place)
        used = start + size
    if places:
        yield WeightChunk(tuple(places), buffer[:used].numpy())


def tensors_of(chunk: WeightChunk) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a chunk, as views of its memory: they must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        data = torch.from_numpy(chunk.data)
    for place in chunk.places:
        dtype: torch.dtype = getattr(torch, place.dtype)
        size = math.prod(place.shape) * dtype.itemsize
        # No bytes have no stride that could be viewed as another type.
        values = data[place.offset : place.offset + size].view(dtype) if size else torch.empty(0, dtype=dtype)
        yield place.name, values.view(place.shape)


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
