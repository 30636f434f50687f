"""One process at a time: a lock file that names who holds it.

The kernel frees the lock when the process ends, however it ends; a file that a killed process leaves behind holds nobody up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rlkit.errors import ConfigError
from rlkit.tracking.run_folder import LOGGER

HELD = (errno.EAGAIN, errno.EACCES)
"""What a file system answers when another process holds the lock."""


@contextmanager
def sole_process(path: Path, refusal: Callable[[str], str]) -> Iterator[None]:
    """Until the end no other process gets the lock file `path`, which is made, and removed at the end.

    Raises `ConfigError` with `refusal(holder)` when one has it; holder is like "process 4711 on node-3". Where the file
    system has no locks, that is a warning.
    """
    file = _take(path, refusal)
    try:
        yield
    finally:
        if _lies_at(path, file):
            with suppress(OSError):
                path.unlink()  # before it is let go: who has opened it meanwhile sees that it is gone
        file.close()


class RunLock:
    """The lock of a run's folder, to be used as a context; kept while the run is started again after a lost worker."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def take(self, folder: Path) -> None:
        """Until the end of the context no other process may train in `folder`. Raises `ConfigError` when one does."""
        if self._folder == folder:
            return

        def refusal(holder: str) -> str:
            return f"run folder {folder} is being written by {holder}: wait for its end, or choose another --name (run.name)"

        try:
            self._held.enter_context(sole_process(folder / ".lock", refusal))
        except OSError as error:
            raise ConfigError(
                f"cannot write in run folder {folder} ({error.strerror}); choose another --output"
            ) from error
        self._folder = folder


def _take(path: Path, refusal: Callable[[str], str]) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                with file:
                    file.seek(0)
                    raise ConfigError(refusal(file.read().strip() or "another process")) from error
            LOGGER.warning("%s cannot be locked (%s): no other process may use this folder", path, error.strerror)
        if _lies_at(path, file):
            with suppress(OSError):  # on a full disk the lock holds all the same
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}\n")
                file.flush()
            return file
        file.close()  # its holder has removed it in between


def _lies_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
