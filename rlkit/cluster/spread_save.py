"""A save that every rank may still be writing.

each rank: which of its files are written  --asked now and then-->  driver: all of them? no rank stuck? do I see the files?
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rlkit.cluster.worker import SaveState
from rlkit.cluster.worker_group import WorkerGroup
from rlkit.errors import CheckpointError

SAVE_POLL_S = 0.1
"""Between two questions whether all ranks have written their files."""

SEEN_WITHIN_S = 30.0
"""Until a file that another machine has written must be seen here: network file systems keep what they have seen before."""


class SpreadSave:
    """Implements `PendingSave` for a model `name` that all ranks write into `folder`."""

    def __init__(self, group: WorkerGroup, name: str, folder: Path) -> None:
        self._group = group
        self._name = name
        self._folder = folder
        self._failures: list[str] | None = None
        self._unseen = ""

    def wait(self) -> None:
        """As `PendingSave.wait`, for all ranks; they go on training meanwhile.

        Raises `CheckpointError` when a rank could not write its files, or wrote some that are not seen here, once no rank
        writes any more; and `WorkerLostError` for a rank that finishes no file within `cluster.call_timeout_s`.
        """
        if self._failures is None:
            states = self._final_states()
            self._failures = [state.failure for state in states]
            if not any(self._failures):
                self._unseen = self._find_unseen(states)
        check_written(self._failures)
        if self._unseen:
            raise CheckpointError(self._unseen)

    def _final_states(self) -> list[SaveState]:
        progress = _Progress(self._group.size)
        limit = self._group.call_timeout_s
        while True:
            states: list[SaveState] = self._group.call("save_is_done", self._name)
            if all(state.is_done for state in states):
                return states
            rank, still_s = progress.slowest(states)
            if 0 < limit < still_s:
                raise self._group.lose(
                    rank,
                    f"has finished no file of its part of the checkpoint ({self._name}) for {limit:g} s "
                    f"(cluster.call_timeout_s): the file system of {self._folder} may be stuck there",
                )
            time.sleep(SAVE_POLL_S)

    def _find_unseen(self, states: Sequence[SaveState]) -> str:
        """A file that is not here as the rank that wrote it says, in words; empty when all are."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while True:
            found = _first_unseen(self._folder, states)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(SAVE_POLL_S)


class _Progress:
    """When each rank last got on."""

    def __init__(self, size: int) -> None:
        self._files = [0] * size
        self._since = [time.monotonic()] * size

    def slowest(self, states: Sequence[SaveState]) -> tuple[int, float]:
        """The rank that has finished no file for longest, of those that still write; and for how many seconds."""
        now = time.monotonic()
        for rank, state in enumerate(states):
            if len(state.files) != self._files[rank]:
                self._files[rank], self._since[rank] = len(state.files), now
        rank = min((rank for rank, state in enumerate(states) if not state.is_done), key=self._since.__getitem__)
        return rank, now - self._since[rank]


def check_written(failures: Sequence[str]) -> None:
    """Raises `CheckpointError`. failures: of each rank, empty where there was none."""
    failed = [f"rank {rank}: {failure}" for rank, failure in enumerate(failures) if failure]
    if failed:
        raise CheckpointError("; ".join(failed))


def _first_unseen(folder: Path, states: Sequence[SaveState]) -> str:
    for rank, state in enumerate(states):
        for name, size in state.files.items():
            here = _bytes_of(folder / name)
            if here != size:
                seen = "which is not" if here is None else f"{size} bytes, of which {here} are"
                return (
                    f"rank {rank} on {state.node} wrote {folder / name}, {seen} seen here: run.output must be on a file "
                    "system that every worker shares"
                )
    return ""


def _bytes_of(path: Path) -> int | None:
    """None where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return None
