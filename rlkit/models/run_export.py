"""Which folder of a run is meant by `rlkit models export`, and whether it still is what was written.

run/  model/  adapter/                                   the finished run
      checkpoints/step_000010/  model/  adapter/         confirmed by its manifest
                  step_000020/  model/  adapter/  best.json
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from rlkit.errors import CheckpointError, ModelError
from rlkit.models.adapter_folder import CONFIG_FILE, is_adapter_folder
from rlkit.tracking.checkpoints import MANIFEST, CheckpointStore, verify_checkpoint

LOGGER = logging.getLogger("rlkit")

Part = Literal["model", "adapter"]
BEST_NOTE = "best.json"


def find_exported(source: Path, *, step: str = "", part: Part = "model") -> Path:
    """The folder of the model or adapter that `source` (run, checkpoint, model or adapter folder) holds, verified.

    step  of a run: a number, `best`, or `last` for its newest checkpoint that is whole; empty takes what the run ended
          with, or else `last`

    Raises `ModelError` when there is none, and `CheckpointError` for a damaged one.
    """
    if not source.is_dir():
        raise ModelError(f"'{source}' is not a folder; give a run, a checkpoint or a model folder")
    checkpoints = CheckpointStore(source / "checkpoints")
    if not step:
        found = _finished(source, part)
        if found is not None:
            return found
    if checkpoints.folder.is_dir():
        return _of_step(checkpoints, step or "last", part)
    if step:
        raise ModelError(
            f"'{source}' is no run folder, so it has no step {step}; leave --step out, or give the run's folder"
        )
    raise ModelError(_nothing(source, part))


def _finished(source: Path, part: Part) -> Path | None:
    """`source` itself, or what lies in it outside of `checkpoints/`."""
    itself = is_adapter_folder(source) if part == "adapter" else (source / "config.json").is_file()
    if itself:
        return source
    if not _holds(source, part):
        return None
    if (source / MANIFEST).is_file():
        verify_checkpoint(source, part=part)
    return source / part


def _holds(folder: Path, part: Part) -> bool:
    return (folder / part / (CONFIG_FILE if part == "adapter" else "config.json")).is_file()


def _of_step(store: CheckpointStore, step: str, part: Part) -> Path:
    steps = store.steps()
    if step == "last":
        return _newest(store, steps, part)
    if step == "best":
        # A later best one was better than each before it, which may still be there among the newest.
        marked = [number for number in steps if (store.path(number) / BEST_NOTE).is_file()]
        if not marked:
            raise ModelError(
                f"no checkpoint in '{store.folder}' is marked as the best one; it takes validations and trainer.keep_best"
            )
        chosen = marked[-1]
    elif step.isdigit() and int(step) in steps:
        chosen = int(step)
    else:
        raise ModelError(
            f"'{store.folder}' has no checkpoint of step {step}; there are: {', '.join(map(str, steps)) or 'none'}, "
            "best, last"
        )
    return _verified(store, chosen, part)


def _newest(store: CheckpointStore, steps: list[int], part: Part) -> Path:
    for number in reversed(steps):
        try:
            return _verified(store, number, part)
        except CheckpointError as error:
            LOGGER.warning("%s; using the one before it", error)
    raise ModelError(f"'{store.folder}' has no checkpoint with a whole {part}")


def _verified(store: CheckpointStore, step: int, part: Part) -> Path:
    folder = store.path(step)
    verify_checkpoint(folder, step=step, part=part)
    if not _holds(folder, part):
        raise ModelError(_nothing(folder, part))
    return folder / part


def _nothing(source: Path, part: Part) -> str:
    if part == "adapter":
        return f"'{source}' holds no adapter; only runs with lora.rank above 0 leave one. Leave --adapter-only out"
    return f"'{source}' holds no model: neither config.json, model/ nor checkpoints/step_*/model/"
