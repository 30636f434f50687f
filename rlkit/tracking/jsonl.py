"""Every metric of every step, one JSON line each:

{"event": "step", "step": 3, "time": 1763712000.1, "metrics": {"reward/mean": 0.5}}

Numbers that JSON does not have (NaN, infinity) are written as null.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rlkit.plugin.hookspecs import RunInfo, RunStatus, hookimpl
from rlkit.tracking.run_folder import write_atomically

FILE_NAME = "metrics.jsonl"


class JsonlHook:
    """Writes metrics.jsonl; a resumed run's file goes on where the checkpoint was taken."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._checkpoints: set[int] = set()

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        path = run.folder / FILE_NAME
        self._checkpoints = keep_until(path, run.first_step)
        self._file = path.open("a", encoding="utf-8")

    @hookimpl
    def step_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._write("step", step, metrics=plain_metrics(metrics))

    @hookimpl
    def validation_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._write("validation", step, metrics=plain_metrics(metrics))

    @hookimpl
    def checkpoint_saved(self, run: RunInfo, step: int, folder: Path) -> None:
        if step not in self._checkpoints:  # a resumed run says it again of the checkpoint that it goes on from
            self._checkpoints.add(step)
            self._write("checkpoint", step, folder=folder.name)

    @hookimpl
    def run_finished(self, run: RunInfo, status: RunStatus) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, event: str, step: int, **content: Any) -> None:
        assert self._file is not None, "run_started comes first"
        entry = {"event": event, "step": step, "time": round(time.time(), 3), **content}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def plain_metrics(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """`metrics` as any JSON parser reads them: what is not finite becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def keep_until(path: Path, step: int) -> set[int]:
    """Drop lines of later steps, which the resumed run will write again, and a line that was cut off.

    At step 0 everything goes: the run starts anew. Returns the steps of the checkpoints in what is left.
    """
    if not path.exists():
        return set()
    kept: list[str] = []
    checkpoints: set[int] = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if step > 0 and isinstance(entry, dict) and entry.get("step", 0) <= step:
            kept.append(line)
            if entry.get("event") == "checkpoint":
                checkpoints.add(entry["step"])
    write_atomically(path, "".join(f"{line}\n" for line in kept))
    return checkpoints
