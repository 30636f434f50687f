"""Weights & Biases, online or into files for `wandb sync`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit_trackers.options import WandbOptions
from rlkit_trackers.tracker import COLUMNS, AnswerTable

STEP = "step"
"""The x axis of every metric. Wandb's own counter only rises: it would throw away what comes late, such as validations."""

DATA_DIR = "WANDB_DATA_DIR"
"""Where tables wait for their upload: beside the run, not in a home folder that may be full or read-only."""


class WandbTracker:
    """Metrics in the history, config and checkpoints beside it, answers as tables."""

    settle_s: float | None = 30.0  # it writes and uploads in a process of its own, with buffers

    def __init__(self, options: WandbOptions) -> None:
        self._options = options
        self._run: Any = None
        self._staging = False

    def start(self, run: RunInfo, run_id: str, *, resumed: bool) -> None:
        import wandb

        options = self._options
        # Its own lines would tear the run's: those of the login and of what it detects, besides those of the run itself.
        wandb.setup(wandb.Settings(silent=True))
        if options.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError(
                "no API key: set WANDB_API_KEY, run `wandb login`, or set run.hook_options.wandb.mode = offline"
            )
        folder = Path(options.folder) if options.folder else run.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._staging = DATA_DIR not in os.environ
        os.environ.setdefault(DATA_DIR, str(folder.resolve() / "wandb"))
        self._run = wandb.init(
            project=options.project,
            entity=options.entity or None,
            group=options.group or None,
            tags=list(options.tags) or None,
            name=run.name,
            id=run_id,
            resume="allow",
            job_type=run.kind,
            config=dict(run.config),
            dir=str(folder.resolve()),
            mode=options.mode,
            # The process must not wait for its upload longer than the run does.
            settings=wandb.Settings(silent=True, console="off", finish_timeout=options.flush_s),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({**metrics, STEP: step})

    def log_answers(self, table: AnswerTable) -> None:
        import wandb

        rows = [list(row) for row in table.rows]
        self._run.log({table.title: wandb.Table(columns=list(COLUMNS), data=rows), STEP: table.step})

    def log_checkpoint(self, step: int, folder: Path) -> None:
        self._run.summary.update({"checkpoint/step": step, "checkpoint/folder": str(folder)})

    def finish(self, status: RunStatus) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def release(self) -> None:
        if self._staging:
            os.environ.pop(DATA_DIR, None)
        self._staging = False
