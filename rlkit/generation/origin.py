"""What a completions file was made with, kept beside it, so that two models' answers never end up in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rlkit.errors import ConfigError
from rlkit.tracking.run_folder import write_atomically
from rlkit.tracking.sole_process import sole_process

BLOCK_BYTES = 4096
BLOCKS_PER_FILE = 64
"""Enough of a weights file to notice any training step, and little enough to read at once from 100 GB."""


def origin_path(output: Path) -> Path:
    """`completions.jsonl` -> `completions.jsonl.origin.json`."""
    return output.with_name(f"{output.name}.origin.json")


def weights_fingerprint(folder: Path) -> str:
    """Changes when any weights file of a model folder does; reads a few blocks of each file only."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            for block in range(BLOCKS_PER_FILE):
                file.seek(max(0, size - BLOCK_BYTES) * block // (BLOCKS_PER_FILE - 1))
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]


def text_fingerprint(text: str) -> str:
    """Changes when the text does; empty for an empty one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def check_origin(output: Path, origin: Mapping[str, Any]) -> None:
    """Write `origin` for a new file; for one that is to be continued, refuse any difference.

    Raises `ConfigError` naming the first setting that differs.
    """
    path = origin_path(output)
    plain = json.loads(json.dumps(origin))
    if output.exists() and output.stat().st_size and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key in [*plain, *before]:
            if before.get(key) != plain.get(key):
                raise ConfigError(
                    f"{output} was begun with {key} = {before.get(key)!r}, this run has {plain.get(key)!r}: "
                    "choose another --output, or remove the file to make all answers anew"
                )
        return
    write_atomically(path, json.dumps(plain, indent=2) + "\n")


def only_writer(output: Path) -> AbstractContextManager[None]:
    """Until the end no other run may append to `output`: both would answer the same prompts. A kill ends it too.

    Raises `ConfigError` when one does already. Enter it before `check_origin`, which may begin the file anew.
    """

    def refusal(holder: str) -> str:
        return f"another `rlkit generate` ({holder}) is writing {output}: wait for it, or choose another --output"

    return sole_process(output.with_name(f".{output.name}.lock"), refusal)
