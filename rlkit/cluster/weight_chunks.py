"""Weights as flat pieces of bounded size, which many processes can read from one place in shared memory.

named tensors --weight_chunks--> bytes + index --(shared memory)--> tensors_of --> the same named tensors, not copied
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

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
    large: Tensor | None = None
    for laid in _laid_out(named_tensors, max_bytes):
        if laid is None:
            last = places[-1]
            used = last.offset + _size(last)
            yield WeightChunk(tuple(places), (buffer[:used] if large is None else _as_bytes(large)).numpy())
            places, large = [], None
            continue
        place, tensor = laid
        places.append(place)
        if _size(place) > max_bytes:
            large = tensor
        else:
            buffer[place.offset : place.offset + _size(place)] = _as_bytes(tensor)


def passed_over_chunks(named_tensors: Iterable[tuple[str, Tensor]], max_bytes: int) -> Iterator[WeightChunk]:
    """Empty pieces in place of those of `weight_chunks`, reading as many tensors for each: what the ranks do whose tensors
    nobody wants, while they help to gather those of the first one."""
    for laid in _laid_out(named_tensors, max_bytes):
        if laid is None:
            yield WeightChunk((), np.empty(0, dtype=np.uint8))


def _laid_out(
    named_tensors: Iterable[tuple[str, Tensor]], max_bytes: int
) -> Iterator[tuple[TensorPlace, Tensor] | None]:
    """Each tensor with its place; None where a piece ends."""
    used, is_empty = 0, True
    for name, tensor in named_tensors:
        size = tensor.numel() * tensor.element_size()
        start = -(-used // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        if not is_empty and start + size > max_bytes:
            yield None
            start = 0
        yield TensorPlace(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), start), tensor
        used, is_empty = start + size, False
        if size > max_bytes:
            yield None
            used, is_empty = 0, True
    if not is_empty:
        yield None


class Chunk(Protocol):
    """Tensors in one piece of memory of this process; `data` [bytes] uint8."""

    @property
    def places(self) -> tuple[TensorPlace, ...]: ...

    @property
    def data(self) -> npt.NDArray[np.uint8] | Tensor: ...


def tensors_of(chunk: Chunk) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a chunk, as views of its memory: they must not be written to."""
    data = chunk.data
    if not isinstance(data, Tensor):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            data = torch.from_numpy(data)
    for place in chunk.places:
        dtype: torch.dtype = getattr(torch, place.dtype)
        size = _size(place)
        # No bytes have no stride that could be viewed as another type.
        values = data[place.offset : place.offset + size].view(dtype) if size else data.new_empty(0, dtype=dtype)
        yield place.name, values.view(place.shape)


def _size(place: TensorPlace) -> int:
    dtype: torch.dtype = getattr(torch, place.dtype)
    return math.prod(place.shape) * dtype.itemsize


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
