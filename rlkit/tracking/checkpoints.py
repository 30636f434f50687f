"""Checkpoints that are whole or not there.

    write aside (.step_000010.partial)  ->  manifest with every file's size and SHA-256  ->  fsync  ->  rename  ->  prune

A run killed at any moment leaves whole checkpoints and possibly a hidden folder, which the next one removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import CheckpointError
from rlkit.plugin.references import describe_error
from rlkit.tracking.run_folder import LOGGER

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run; the newest `keep` are kept, and those that are spared."""

    folder: Path
    keep: int = 2

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}"

    def write(self, step: int, fill: Callable[[Path], None], *, spare: Collection[int] = ()) -> Path:
        """Let `fill` write into an empty folder and move it into place whole. An existing checkpoint of the step is replaced.

        Older checkpoints are deleted then, but for those of the steps in `spare`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".step_*"):
            shutil.rmtree(leftover)
        aside = self.folder / f".step_{step:06d}.partial"
        aside.mkdir()
        fill(aside)
        _write_manifest(aside, step)
        final = self.path(step)
        if final.exists():
            # Moved, not deleted: between the two renames there is no time in which a run is likely to be killed.
            final.rename(self.folder / f".step_{step:06d}.replaced")
        aside.rename(final)
        _fsync_folder(self.folder)
        self._prune(step, spare)
        return final

    def _prune(self, newest: int, spare: Collection[int]) -> None:
        # Later steps are damaged checkpoints that a resumed run passed over: counting them would cost whole ones.
        earlier = [step for step in self.steps() if step <= newest]
        for old in earlier[: -self.keep]:
            if old not in spare:
                shutil.rmtree(self.path(old))
        for leftover in self.folder.glob(".step_*"):
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint folder, ascending; whole or not."""
        found = (folder.name.removeprefix("step_") for folder in self.folder.glob("step_*") if folder.is_dir())
        return sorted(int(number) for number in found if number.isdigit())

    def newest_whole(self) -> tuple[int, Path] | None:
        """The newest checkpoint that its manifest confirms; damaged ones are passed over with a warning."""
        for step in reversed(self.steps()):
            try:
                verify_checkpoint(self.path(step))
            except CheckpointError as error:
                LOGGER.warning("%s; using the one before it", error)
                continue
            return step, self.path(step)
        return None


def verify_checkpoint(folder: Path) -> None:
    """Compare every file with the manifest. Raises `CheckpointError` naming the first fault."""
    manifest = folder / MANIFEST
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder} has no readable manifest ({describe_error(error)})") from error
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"checkpoint {folder} lacks {name}")
        if path.stat().st_size != size:
            raise CheckpointError(f"checkpoint {folder}: {name} has {path.stat().st_size} bytes instead of {size}")
        if _sha256(path) != digest:
            raise CheckpointError(f"checkpoint {folder}: {name} is damaged (its hash differs from the manifest)")


def _write_manifest(folder: Path, step: int) -> None:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            _fsync_file(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"step": step, "files": files}, indent=1), encoding="utf-8")
    _fsync_file(manifest)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        _fsync_folder(inner)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
