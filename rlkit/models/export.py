"""Copying a model out of a run, a checkpoint or a model folder, in another type if asked, and proving that it opens."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.errors import ModelError
from rlkit.models.run_export import find_exported
from rlkit.models.safetensors_io import DEFAULT_SHARD_BYTES, SINGLE_FILE, read_headers, stream_tensors, write_sharded
from rlkit.models.shape import ModelShape, read_config_json, read_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rlkit.types.adapter import AdapterWeights

EXPORT_DTYPES = ("float32", "bfloat16", "float16")

COMPANION_PATTERNS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.*",
    "generation_config.json",
    "LICENSE*",
    "NOTICE*",
)
"""What belongs to a model besides config.json and weights. Never code and never pickles."""


def copy_companions(source: Path, target: Path) -> tuple[str, ...]:
    """Copy tokenizer, chat template, generation config and licence from one model folder to another; the names copied."""
    copied: set[str] = set()
    for pattern in COMPANION_PATTERNS:
        for file in source.glob(pattern):
            if file.is_file() and file.name not in copied:
                shutil.copyfile(file, target / file.name)
                copied.add(file.name)
    return tuple(sorted(copied))


def export_model(
    source: Path, target: Path, *, step: str = "", dtype: str = "", max_shard_bytes: int = DEFAULT_SHARD_BYTES
) -> ModelShape:
    """Copy the model that `source` (run, checkpoint or model folder) is or holds to `target`, and verify the copy.

    step as `rlkit.models.run_export.find_exported` takes it; dtype float32, bfloat16, float16, empty keeps what is
    stored. `target` appears whole or not at all. Raises `ModelError` when there is no model in `source`, `target` is in
    use, or the copy does not open; `CheckpointError` when the checkpoint is damaged.
    """
    _check_dtype(dtype)
    folder = find_exported(source, step=step)
    with _new_target(target) as partial:
        write_sharded(_cast(stream_tensors(folder), dtype), partial, max_shard_bytes=max_shard_bytes)
        _write_config(folder, partial, dtype)
        copy_companions(folder, partial)
        verify_model(partial, expected=folder)
    return read_shape(target)


def export_adapter(source: Path, target: Path, *, step: str = "", dtype: str = "") -> AdapterWeights:
    """As `export_model`, but the adapter alone, as peft opens it; returns it."""
    from rlkit.models.adapter_folder import CONFIG_FILE, WEIGHTS_FILE, read_adapter

    _check_dtype(dtype)
    folder = find_exported(source, step=step, part="adapter")
    with _new_target(target) as partial:
        write_sharded(_cast(stream_tensors(folder), dtype), partial, max_shard_bytes=sys.maxsize)
        (partial / SINGLE_FILE).rename(partial / WEIGHTS_FILE)
        shutil.copyfile(folder / CONFIG_FILE, partial / CONFIG_FILE)
        adapter = read_adapter(partial)
        _check_finite(partial, source)
    return adapter


def _check_dtype(dtype: str) -> None:
    if dtype and dtype not in EXPORT_DTYPES:
        raise ModelError(f"dtype '{dtype}' is not known; one of {', '.join(EXPORT_DTYPES)}")


@contextmanager
def _new_target(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` once it is filled. Raises `ModelError` when that is in use."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"'{target}' exists and is not empty; choose another folder or remove it")
    partial = target.parent / f".{target.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def verify_model(folder: Path, *, expected: Path) -> None:
    """Check that `folder` has the tensors of `expected`, all finite, under the names that transformers looks for.

    Raises `ModelError` saying what differs.
    """
    import torch

    from rlkit.models.causal import build_model, hf_tensors
    from rlkit.models.converted import needs_conversion

    written, wanted = read_headers(folder), read_headers(expected)
    if {name: info.shape for name, info in written.items()} != {name: info.shape for name, info in wanted.items()}:
        differing = sorted(set(written) ^ set(wanted)) or ["(shapes differ)"]
        raise ModelError(f"the copy of '{expected}' is not whole: {differing[0]}")
    _check_finite(folder, expected)
    if read_config_json(folder).get("auto_map"):
        return  # only the model's own code could say which tensors it wants
    head = "value" if "score.weight" in written else "causal_lm"
    module = build_model(folder, head=head, dtype=torch.float32, device="meta")  # type: ignore[arg-type]
    if needs_conversion(module):
        return
    names: dict[int, list[str]] = {}
    tensors = hf_tensors(module)
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    for aliases in names.values():
        if not any(name in written for name in aliases):
            raise ModelError(f"'{expected}' lacks tensor '{aliases[0]}'")


def _check_finite(folder: Path, source: Path) -> None:
    import torch

    for name, tensor in stream_tensors(folder):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"tensor '{name}' of '{source}' has values that are not finite in {str(tensor.dtype).removeprefix('torch.')}"
            )


def _cast(named_tensors: Iterable[tuple[str, Tensor]], dtype: str) -> Iterator[tuple[str, Tensor]]:
    import torch

    wanted: torch.dtype | None = getattr(torch, dtype) if dtype else None
    for name, tensor in named_tensors:
        yield name, tensor.to(wanted) if wanted is not None and tensor.is_floating_point() else tensor


def _write_config(source: Path, target: Path, dtype: str) -> None:
    config = read_config_json(source)
    if dtype:
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
