"""Files that the user names for a result."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rlkit.errors import ConfigError


def check_writable(path: Path, *, remedy: str) -> None:
    """Make the folder of `path` and see that a file can be written there, before hours are spent on its content.

    Raises `ConfigError` with the reason and `remedy`.
    """
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; {remedy}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; {remedy}") from error
