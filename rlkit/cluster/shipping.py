"""The user's own Python files, carried to the workers: a plugin given as `file.py:attribute`, with its neighbours."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import ClusterError
from rlkit.plugin.references import is_file_reference

MAX_SHIPPED_BYTES = 16 * 2**20
"""All files together; Python code stays far below, and a folder that does not is most likely the wrong one."""


@dataclass(frozen=True)
class ShippedFolder:
    """The Python files of one folder and of the packages in it, by their path relative to it."""

    folder: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for name, content in self.files:
            digest.update(f"{name}:{len(content)}:".encode() + content)
        return digest.hexdigest()[:16]

    def unpacked(self) -> Path:
        """The folder on this machine: the original one where it holds the same files, else a copy below the temporary folder.

        A copy is named after its content, so that all workers of a node share it.
        """
        original = Path(self.folder)
        if all(_holds(original / name, content) for name, content in self.files):
            return original
        copy = Path(tempfile.gettempdir()) / f"rlkit-files-{os.getuid()}-{self.digest}"
        copy.mkdir(mode=0o700, exist_ok=True)
        if copy.stat().st_uid != os.getuid():
            raise ClusterError(f"folder {copy} belongs to another user; remove it, or set TMPDIR on that node")
        for name, content in self.files:
            if not _holds(copy / name, content):
                _write(copy / name, content)
        return copy


def pack_files(names: Iterable[str]) -> dict[str, ShippedFolder]:
    """Plugin name -> the folder of its file, for those that are `file.py:attribute`.

    Raises `ClusterError` when the Python files of a folder are too large to be carried along.
    """
    return {name: _packed(Path(name.rpartition(":")[0]), name) for name in names if is_file_reference(name)}


def unpacked_name(name: str, shipped: ShippedFolder | None) -> str:
    """The plugin's name as it is on this machine."""
    if shipped is None:
        return name
    place, _, attribute = name.rpartition(":")
    return f"{shipped.unpacked() / Path(place).name}:{attribute}"


def _packed(file: Path, name: str) -> ShippedFolder:
    folder = file.expanduser().resolve().parent
    files, total = [], 0
    for path in sorted(_python_files(folder)):
        content = path.read_bytes()
        total += len(content)
        if total > MAX_SHIPPED_BYTES:
            raise ClusterError(
                f"'{name}' lies in {folder}, whose Python files are more than {MAX_SHIPPED_BYTES // 2**20} MiB; "
                "move it into a folder of its own, so that it can be carried to the replicas"
            )
        files.append((path.relative_to(folder).as_posix(), content))
    return ShippedFolder(str(folder), tuple(files))


def _python_files(folder: Path) -> Iterator[Path]:
    """Files beside the plugin's, and those of packages there: what it can import."""
    yield from folder.glob("*.py")
    for package in folder.iterdir():
        if package.is_dir() and (package / "__init__.py").is_file():
            yield from package.rglob("*.py")


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: another worker may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(path)
