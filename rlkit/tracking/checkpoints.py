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
    """The checkpoints of one run; the newest `keep` are kept, and those that are spared.

    first: files beside the folder that must be on the disk before a checkpoint is whole, as far as they are written:
    after a power cut they are never behind the checkpoint.
    """

    folder: Path
    keep: int = 2
    first: tuple[Path, ...] = ()

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}"

    def write(self, step: int, fill: Callable[[Path], None], *, spare: Collection[int] = ()) -> Path:
        """Let `fill` write into an empty folder and move it into place whole. An existing checkpoint of the step is replaced.

        Older checkpoints are deleted then, but for those of the steps in `spare`.
        """
        fill(self.begin(step))
        return self.complete(step, spare=spare)

    def begin(self, step: int) -> Path:
        """An empty folder, out of sight, for the files of `step`; what an earlier run left half-written is removed."""
        self.remove_leftovers()
        aside = self.aside(step)
        aside.mkdir(parents=True)
        return aside

    def complete(self, step: int, *, spare: Collection[int] = ()) -> Path:
        """Move what was written since `begin` into place whole, and delete older checkpoints; see `write`."""
        aside, final = self.aside(step), self.path(step)
        _write_manifest(aside, step)
        for path in self.first:
            if path.exists():
                _fsync_file(path)
                _fsync_folder(path.parent)
        if final.exists():
            # Moved, not deleted: between the two renames there is no time in which a run is likely to be killed.
            final.rename(self.folder / f".step_{step:06d}.replaced")
        aside.rename(final)
        _fsync_folder(self.folder)
        self._prune(step, spare)
        return final

    def remove_leftovers(self) -> None:
        """Whatever is half-written or half-deleted."""
        for leftover in self.folder.glob(".step_*"):
            shutil.rmtree(leftover)

    def aside(self, step: int) -> Path:
        return self.folder / f".step_{step:06d}.partial"

    def _prune(self, newest: int, spare: Collection[int]) -> None:
        # Later steps are damaged checkpoints that a resumed run passed over: counting them would cost whole ones.
        earlier = [step for step in self.steps() if step <= newest]
        for old in earlier[: -self.keep]:
            if old not in spare:
                # Out of sight first: a run killed while it deletes leaves nothing that looks like a damaged checkpoint.
                shutil.rmtree(self.path(old).rename(self.folder / f".step_{old:06d}.deleted"))
        self.remove_leftovers()

    def steps(self) -> list[int]:
        """Steps that have a checkpoint folder, ascending; whole or not."""
        found = (folder.name.removeprefix("step_") for folder in self.folder.glob("step_*") if folder.is_dir())
        return sorted(int(number) for number in found if number.isdigit())

    def newest_whole(self) -> tuple[int, Path] | None:
        """The newest checkpoint that its manifest confirms; damaged ones are passed over with a warning."""
        for step in reversed(self.steps()):
            try:
                verify_checkpoint(self.path(step), step=step)
            except CheckpointError as error:
                LOGGER.warning("%s; using the one before it", error)
                continue
            return step, self.path(step)
        return None


def verify_checkpoint(folder: Path, *, step: int | None = None, part: str = "") -> None:
    """Compare every file with the manifest. Raises `CheckpointError` naming the first fault.

    step: the one that the manifest must be of; None takes any. part: the folder inside that is looked at; empty: all.
    """
    manifest = folder / MANIFEST
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        found, entries = int(content["step"]), content["files"]
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder} has no readable manifest ({describe_error(error)})") from error
    if not files:
        raise CheckpointError(f"checkpoint {folder} is empty")
    if step is not None and found != step:
        raise CheckpointError(f"checkpoint {folder} has the manifest of step {found}")
    for name, (size, digest) in files.items():
        if part and not name.startswith(f"{part}/"):
            continue
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
