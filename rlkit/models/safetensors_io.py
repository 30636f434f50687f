"""Reading and writing safetensors one tensor at a time. Only these files hold weights: nothing is ever unpickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.errors import ModelError
from rlkit.models.shard_file import ShardFile

if TYPE_CHECKING:
    from torch import Tensor

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DEFAULT_SHARD_BYTES = 5_000_000_000
MAX_HEADER_BYTES = 100_000_000  # what the safetensors library itself accepts

PICKLE_PATTERNS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its file's header describes it; dtype in safetensors' words (F32, BF16, ...)."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_elements(self) -> int:
        return prod(self.shape)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The folder's safetensors files in reading order.

    Raises `ModelError` when a file named by the index is missing, or when the folder has none (with the way to convert
    one that holds pickled weights only).
    """
    index = folder / INDEX_FILE
    if index.is_file():
        return _files_of_index(index)
    if (folder / SINGLE_FILE).is_file():
        return (folder / SINGLE_FILE,)
    files = tuple(sorted(folder.glob("*.safetensors")))
    if files:
        return files
    pickled = sorted(path.name for pattern in PICKLE_PATTERNS for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"model folder '{folder}' has pickled weights only ({pickled[0]}), which rlkit never opens because they can run code; "
            "convert them where you trust them: "
            f"python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}').save_pretrained('OUT')\""
        )
    raise ModelError(f"model folder '{folder}' has no weights: expected {SINGLE_FILE} or {INDEX_FILE} with its shards")


def _files_of_index(index: Path) -> tuple[Path, ...]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{index}' is not a safetensors index: {error}") from error
    files = tuple(index.parent / name for name in names)
    for file in files:
        if file.parent != index.parent:
            raise ModelError(f"'{index}' names '{file}', which lies outside the model folder")
        if not file.is_file():
            raise ModelError(f"'{index}' names {file.name}, which is missing; the download or copy is incomplete")
    return files


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the folder by name, from the file headers only."""
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file))
    return tensors


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Every tensor of one safetensors file by name."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > MAX_HEADER_BYTES:
                raise ValueError(f"header of {size} bytes")
            header = json.loads(stream.read(size))
        tensors = {
            name: TensorInfo(file.name, entry["dtype"], tuple(entry["shape"]), _span(entry["data_offsets"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, struct.error, AttributeError) as error:
        raise ModelError(f"'{file}' is not a whole safetensors file: {error}") from error
    expected = 8 + size + sum(info.num_bytes for info in tensors.values())
    if file.stat().st_size < expected:
        raise ModelError(f"'{file}' is cut off: {file.stat().st_size} bytes, its header promises {expected}")
    return tensors


def _span(offsets: list[int]) -> int:
    start, end = offsets
    return end - start


def stream_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors (on the CPU) of all files, one tensor in memory at a time."""
    from safetensors import SafetensorError, safe_open

    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt", device="cpu") as shard:
                for name in shard.keys():  # noqa: SIM118 - not a mapping
                    yield name, shard.get_tensor(name)
        except SafetensorError as error:
            raise ModelError(f"'{file}' is not a whole safetensors file: {error}") from error


def write_sharded(
    named_tensors: Iterable[tuple[str, Tensor]], folder: Path, *, max_shard_bytes: int = DEFAULT_SHARD_BYTES
) -> dict[str, TensorInfo]:
    """Write tensors under `folder`, at most `max_shard_bytes` a file (a larger tensor gets a file of its own).

    Each tensor is on disk before the next one is asked for, but for some small ones. Files of an earlier, different split
    are removed at the end. Returns what was written. Raises `ModelError` for a tensor given twice, and when the disk
    refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[ShardFile] = []
    seen: set[str] = set()
    try:
        for name, tensor in named_tensors:
            if name in seen:
                raise ModelError(f"tensor '{name}' was given twice")
            seen.add(name)
            if not shards or not shards[-1].has_room_for(name, tensor, max_shard_bytes):
                if shards:
                    shards[-1].finish()
                shards.append(ShardFile(folder / f".shard-{len(shards):05d}.partial"))
            shards[-1].add(name, tensor)
        if not shards:
            raise ModelError(f"no tensors to write to '{folder}'")
        shards[-1].finish()
    finally:
        for shard in shards:
            shard.close()
    return _put_in_place([shard.path for shard in shards], [shard.names for shard in shards], folder)


def _put_in_place(shards: list[Path], names: list[list[str]], folder: Path) -> dict[str, TensorInfo]:
    """Give the finished shards their final names, write the index, and remove files that belong to neither."""
    count = len(shards)
    final = (
        [SINGLE_FILE]
        if count == 1
        else [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    )
    for shard, name in zip(shards, final, strict=True):
        shard.replace(folder / name)
    written: dict[str, TensorInfo] = {}
    for name in final:
        written.update(read_header(folder / name))
    index = folder / INDEX_FILE
    if count == 1:
        index.unlink(missing_ok=True)
    else:
        weight_map = {tensor: file for file, tensors in zip(final, names, strict=True) for tensor in tensors}
        total = sum(info.num_bytes for info in written.values())
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for stale in folder.glob("model*.safetensors"):
        if stale.name not in final:
            stale.unlink()
    return written
