"""One JSON object for each event on standard output, and nothing else there: other prints go to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.tracking.jsonl import plain_metrics


class JsonProgress:
    """For programs that start rlkit."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, run: RunInfo) -> None:
        # A reward function that prints must not spoil the stream for its reader.
        if sys.stdout is self._stream:
            sys.stdout = sys.stderr
        self._write(
            "run_started",
            kind=run.kind,
            name=run.name,
            folder=str(run.folder),
            first_step=run.first_step,
            total_steps=run.total_steps,
        )

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._write("step", step=step, metrics=plain_metrics(metrics))

    def validation(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._write("validation", step=step, metrics=plain_metrics(metrics))

    def checkpoint(self, run: RunInfo, step: int, folder: Path) -> None:
        self._write("checkpoint", step=step, folder=str(folder))

    def notice(self, message: str) -> None:
        self._write("notice", message=message)

    def warning(self, message: str) -> None:
        self._write("warning", message=message)

    def finish(self, run: RunInfo, status: RunStatus) -> None:
        self._write("run_finished", status=status)
        if sys.stdout is sys.stderr:
            sys.stdout = self._stream

    def _write(self, event: str, **content: Any) -> None:
        print(json.dumps({"event": event, **content}), file=self._stream, flush=True)
