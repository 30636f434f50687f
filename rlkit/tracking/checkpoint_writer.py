"""Checkpoints written while training goes on.

    training thread    stage: copy the state into host memory ──┐                 take_finished / wait: is it in its place?
    writing thread                                              └─ files -> manifest -> fsync -> rename -> prune

One at a time: the next checkpoint waits for the one before it. A run that is killed meanwhile leaves that one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from rlkit.errors import CheckpointError, ClusterError, ModelError, RLKitError
from rlkit.plugin.references import describe_error
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import LOGGER

WARN_AFTER_S = 60.0
"""Of waiting for a disk; each further warning comes after twice the time."""

Stage = Callable[[Path], Callable[[], object] | None]
"""Copies what a checkpoint holds into host memory. It gets the empty folder, and returns what writes the files; None when
there is nothing left to write."""


@dataclass(frozen=True)
class Written:
    """A checkpoint that is whole and in its place."""

    step: int
    folder: Path


@dataclass
class _Pending:
    step: int
    thread: threading.Thread | None = None
    written: Written | None = None
    error: Exception | None = None


class CheckpointWriter:
    """Writes the checkpoints of one run into its store."""

    def __init__(self, store: CheckpointStore, stage: Stage, *, in_background: bool = True) -> None:
        """in_background False: `begin` returns only when the checkpoint is whole, or has failed."""
        self.store = store
        self.stage = stage
        self.in_background = in_background
        self._pending: _Pending | None = None

    def begin(self, step: int, *, spare: Collection[int] = ()) -> Written | None:
        """Stage the checkpoint of `step` and begin to write it; older ones of the steps in `spare` will be kept.

        The one before must have been taken: by `wait`, or by `take_finished`. Returns what `wait` returns where nothing is
        written in the background, else None. Raises `CheckpointError` when the disk refuses already now.
        """
        if self._pending is not None:
            raise RuntimeError(f"the checkpoint of step {self._pending.step} is still pending")
        pending = _Pending(step)
        try:
            folder = self.store.begin(step)
            write = self.stage(folder)
        except (OSError, SafetensorError, ModelError, CheckpointError) as error:
            self._discard(step)
            raise _failure(step, error) from error
        self._pending = pending
        kept = tuple(spare)
        if not self.in_background:
            self._write(pending, write, kept)
            return self.take_finished()
        # A daemon: a second Ctrl-C must not wait for a disk, and what is half-written then is recognised as such.
        pending.thread = threading.Thread(
            target=self._write, args=(pending, write, kept), name=f"checkpoint-{step}", daemon=True
        )
        pending.thread.start()
        return None

    def take_finished(self) -> Written | None:
        """The checkpoint that has become whole since the last call, if any. Raises `CheckpointError` if it has failed."""
        pending = self._pending
        if pending is None or (pending.thread is not None and pending.thread.is_alive()):
            return None
        self._pending = None
        if pending.error is not None:
            if isinstance(pending.error, ClusterError):
                raise pending.error  # a worker that died: not a fault of the checkpoint
            raise _failure(pending.step, pending.error) from pending.error
        return pending.written

    def wait(self) -> Written | None:
        """As `take_finished`, once nothing is under way. Warns when that takes long: a disk may be stuck."""
        pending = self._pending
        if pending is not None and pending.thread is not None:
            began, patience_s = time.monotonic(), WARN_AFTER_S
            while _is_alive_after(pending.thread, patience_s):
                LOGGER.warning(
                    "training has been waiting for %.0f s for the checkpoint of step %d; if nothing is written any more, the "
                    "file system of %s is stuck",
                    time.monotonic() - began, pending.step, self.store.folder,
                )  # fmt: skip
                patience_s *= 2
        return self.take_finished()

    def _write(self, pending: _Pending, write: Callable[[], object] | None, spare: tuple[int, ...]) -> None:
        try:
            if write is not None:
                write()
            folder = self.store.complete(pending.step, spare=spare)
            pending.written = Written(pending.step, folder)
        except Exception as error:
            LOGGER.info("the checkpoint of step %d failed", pending.step, exc_info=error)
            pending.error = error
            if not isinstance(
                error, ClusterError
            ):  # that one's worker may be stuck in the folder, and so would this be
                self._discard(pending.step)

    def _discard(self, step: int) -> None:
        """Give the room of a failed checkpoint back: on a full disk the next one needs it."""
        shutil.rmtree(self.store.aside(step), ignore_errors=True)


def _is_alive_after(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return thread.is_alive()


def _failure(step: int, error: Exception) -> CheckpointError:
    reason = str(error) if isinstance(error, RLKitError) else describe_error(error)
    return CheckpointError(f"the checkpoint of step {step} was not written ({reason})")
