"""Reading slices of tensors from what several ranks wrote: any rank of any layout reads what it needs, and no more."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rlkit.errors import CheckpointError
from rlkit.models.state_files import SAVED_OFFSETS, SHARDING_INFO, WHOLE_SHAPE, check_is_there, ranks_with_files


@dataclass(frozen=True)
class Slice:
    """A box of a tensor: where it starts, its shape, and the shape of the whole tensor."""

    offsets: Sequence[int]
    shape: tuple[int, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    file: Path
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Saved:
    """A tensor as its ranks wrote it: the shape of the whole, and the pieces, which do not overlap."""

    shape: tuple[int, ...]
    pieces: list[_Piece]


def read_slices(folder: Path, wanted: Mapping[str, Slice], *, otherwise: str) -> Iterator[tuple[str, Tensor]]:
    """Names and slices (on the CPU), one after the other, of what `rlkit.models.state_files` wrote into `folder`.

    Raises `CheckpointError` when a tensor is missing, has another shape (`otherwise` says what that means) or is not whole.
    """
    saved = _read_places(folder)
    shapes = {name: tensor.shape for name, tensor in saved.items()}
    check_shapes(folder, shapes, {name: tuple(place.whole) for name, place in wanted.items()}, otherwise=otherwise)
    try:
        for name, place in wanted.items():
            yield name, _assemble(name, place, saved[name].pieces)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unreadable(folder, error) from error


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in `folder`, each of which is there to its last element. Raises `CheckpointError`."""
    return {name: tensor.shape for name, tensor in _read_places(folder).items()}


def check_shapes(
    folder: Path, saved: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], *, otherwise: str
) -> None:
    """Raises `CheckpointError` for a wanted tensor that was not saved, or in another shape; `otherwise` says what that means."""
    for name, shape in sorted(wanted.items()):
        if name not in saved:
            raise CheckpointError(f"{otherwise} ('{name}' is not in '{folder}', to which {_writers(folder)} wrote)")
        if saved[name] != shape:
            raise CheckpointError(f"{otherwise} ('{name}' in '{folder}' has shape {saved[name]}, here {shape})")


def _read_places(folder: Path) -> dict[str, _Saved]:
    check_is_there(folder)
    found: dict[str, list[_Piece]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt", device="cpu") as stored:
                places: dict[str, Any] = json.loads((stored.metadata() or {})[SHARDING_INFO])
                for name, place in places.items():
                    piece = _Piece(file, tuple(place[SAVED_OFFSETS]), tuple(stored.get_slice(name).get_shape()))
                    found.setdefault(name, []).append(piece)
                    if WHOLE_SHAPE in place:
                        shapes[name] = tuple(place[WHOLE_SHAPE])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unreadable(folder, error) from error
    saved = {name: _Saved(shapes.get(name, _end_of(pieces)), pieces) for name, pieces in found.items()}
    for name, tensor in saved.items():
        _check_whole(folder, name, tensor)
    return saved


def _end_of(pieces: Sequence[_Piece]) -> tuple[int, ...]:
    """The shape of the whole tensor if none of its last pieces is missing."""
    ends = ([o + n for o, n in zip(piece.offsets, piece.shape, strict=True)] for piece in pieces)
    return tuple(max(sizes) for sizes in zip(*ends, strict=True))


def _check_whole(folder: Path, name: str, saved: _Saved) -> None:
    expected = math.prod(saved.shape)
    missing = expected - sum(math.prod(piece.shape) for piece in saved.pieces)
    if missing:
        raise CheckpointError(
            f"'{folder}' is not whole: of tensor '{name}' a part is missing ({missing} of {expected} elements); what "
            f"{socket.gethostname()} sees there was written by {_writers(folder)}. run.output must be on a file system "
            "that every worker sees"
        )


def _writers(folder: Path) -> str:
    ranks = ranks_with_files(folder)
    return f"rank {', '.join(map(str, ranks))}" if ranks else "no rank"


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"'{folder}' cannot be read: {error}")


def _assemble(name: str, place: Slice, pieces: Sequence[_Piece]) -> Tensor:
    """The slice, put together from the parts of the pieces that it covers."""
    result: Tensor | None = None
    covered = 0
    for piece in pieces:
        box = _overlap(place, piece)
        if box is None:
            continue
        with safe_open(piece.file, framework="pt", device="cpu") as stored:
            if not place.shape:
                return torch.as_tensor(stored.get_tensor(name))
            part = stored.get_slice(name)[
                tuple(slice(a - o, b - o) for (a, b), o in zip(box, piece.offsets, strict=True))
            ]
        if part.shape == place.shape:
            return torch.as_tensor(part)
        if result is None:
            result = torch.empty(place.shape, dtype=part.dtype)
        result[tuple(slice(a - o, b - o) for (a, b), o in zip(box, place.offsets, strict=True))] = part
        covered += part.numel()
    if result is None or covered != result.numel():
        raise CheckpointError(
            f"tensor '{name}' is not whole: {covered} elements of a slice of {place.shape} were saved"
        )
    return result


def _overlap(place: Slice, piece: _Piece) -> list[tuple[int, int]] | None:
    """Start and end in each dimension of the whole tensor; None: nothing."""
    box = [
        (max(a, b), min(a + n, b + m))
        for a, n, b, m in zip(place.offsets, place.shape, piece.offsets, piece.shape, strict=True)
    ]
    return None if any(start >= end for start, end in box) else box
