"""Saving while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


class PendingSave(Protocol):
    """A save whose state has been copied and whose files may still be under way."""

    def wait(self) -> None:
        """Return when this process's files are written and synced to disk; raises what writing them raised.

        May be called from any thread, and more than once.
        """
        ...


@runtime_checkable
class ListsFiles(Protocol):
    """A pending save may offer this: whoever collects the files of several machines then knows what to look for."""

    def written(self) -> Mapping[str, int]:
        """This process's files that are written and synced by now: path below the folder -> bytes. From any thread."""
        ...


class FinishedSave:
    """The pending save of a model that writes everything at once."""

    def wait(self) -> None:
        """Nothing is under way."""
