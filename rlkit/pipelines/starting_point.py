"""Where a run starts: at the beginning, or at its newest whole checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.config import Section
from rlkit.errors import CheckpointError
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import LOGGER, RunFolder

FREE_TO_CHANGE = ("run.", "trainer.", "placement.", "cluster.")
"""Settings that may differ between a run and its continuation without a word."""


@dataclass(frozen=True)
class StartingPoint:
    """checkpoint None means the beginning (step 0)."""

    step: int
    checkpoint: Path | None


def starting_point(
    folder: RunFolder, store: CheckpointStore, config: Section, *, must_resume: bool = False
) -> StartingPoint:
    """The newest whole checkpoint of the folder's earlier run, if any; says which settings differ from that run's.

    Where there are checkpoints and none is whole, what the earlier run wrote is moved aside. Under `run.resume = must` a run
    without a whole checkpoint is left as it is: raises `CheckpointError`.
    """
    found = store.newest_whole()
    if found is None and must_resume:
        raise _nothing_to_resume(store)
    store.remove_leftovers()
    if found is None:
        if store.steps():
            _set_aside(folder, store)
        return StartingPoint(0, None)
    step, checkpoint = found
    before = dict(_leaves(folder.read().get("config", {})))
    for key, value in _leaves(config.model_dump(mode="json")):
        if key in before and before[key] != value and not key.startswith(FREE_TO_CHANGE):
            LOGGER.warning("resuming with %s = %r; the run began with %r", key, value, before[key])
    return StartingPoint(step, checkpoint)


def _nothing_to_resume(store: CheckpointStore) -> CheckpointError:
    count = len(store.steps())
    lack = (
        f"none of the {count} checkpoints in {store.folder} is whole"
        if count
        else f"{store.folder} holds no checkpoint"
    )
    return CheckpointError(f"run.resume = must, but {lack}; put one back from a copy, or start anew with --resume auto")


def _set_aside(folder: RunFolder, store: CheckpointStore) -> None:
    """A fault of the disk may pass: what seems damaged now is kept, and so is all that led there."""
    try:
        aside = folder.set_aside()
    except OSError as error:
        raise CheckpointError(
            f"no checkpoint in {store.folder} is whole, and what the run wrote cannot be moved aside ({error.strerror}); "
            "choose another --name"
        ) from error
    LOGGER.warning(
        "no checkpoint in %s is whole; the run starts from the beginning, and what it wrote before is in %s",
        store.folder,
        aside,
    )


def already_finished(folder: RunFolder, start: StartingPoint, steps: int) -> bool:
    """Whether nothing is left to do; says so."""
    if start.checkpoint is None or start.step < steps or not (folder.model / "config.json").exists():
        return False
    # A run that was killed before its last export may still hold the model of an earlier interruption.
    if folder.read().get("status") != "finished":
        return False
    print(
        f"run {folder.path} is complete ({start.step} of {steps} steps): its model is {folder.model}. "
        "To train anew choose another --name; to go on, raise the number of steps."
    )
    return True


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
