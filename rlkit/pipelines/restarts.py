"""A run that has lost a worker goes on from its last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.worker_group import WorkerLostError
from rlkit.pipelines.placement import torchrun_size
from rlkit.tracking.sole_process import RunLock

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

LOGGER = logging.getLogger("rlkit")


def run_with_restarts(resolved: Resolved, attempt: Callable[[Resolved, RunLock], Path]) -> Path:
    """`attempt(resolved, lock)`, again after each `WorkerLostError`, at most `cluster.max_restarts` times in all.

    The attempts have one lock, which is for the run's folder: between two of them no other process gets it.
    Under torchrun once: its processes can be started anew by torchrun alone, all together.
    """
    with RunLock() as lock:
        return _attempts(resolved, attempt, lock)


def _attempts(resolved: Resolved, attempt: Callable[[Resolved, RunLock], Path], lock: RunLock) -> Path:
    limit, restarts = resolved.config.cluster.max_restarts, 0
    while True:
        try:
            return attempt(resolved, lock)
        except WorkerLostError as error:
            if torchrun_size():
                raise
            if restarts == limit:
                again = f"cluster.max_restarts = {limit}" + (", which are used up" if limit else "")
                raise WorkerLostError(f"{error}; {again}: the same command goes on from the last checkpoint") from error
            restarts += 1
            LOGGER.warning("%s; going on from the last checkpoint (restart %d of at most %d)", error, restarts, limit)
            # The folder is in use now, by this very run.
            run = resolved.config.run.model_copy(update={"resume": "auto"})
            resolved = replace(resolved, config=resolved.config.model_copy(update={"run": run}))
