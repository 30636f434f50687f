"""TensorBoard: event files in a folder, which is what a resumed run goes on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit_trackers.answers import markdown
from rlkit_trackers.options import TensorBoardOptions
from rlkit_trackers.tracker import COLUMNS, AnswerTable


class TensorBoardTracker:
    """Metrics as scalars; config, tables of answers and checkpoints as texts."""

    settle_s: float | None = None

    def __init__(self, options: TensorBoardOptions) -> None:
        self._options = options
        self._writer: Any = None

    def start(self, run: RunInfo, run_id: str, *, resumed: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(self._options.folder) if self._options.folder else run.folder / "tensorboard"
        # Steps after the checkpoint were done before too: what the earlier part of the run said of them is taken back.
        purge = run.first_step + 1 if resumed else 0
        self._writer = SummaryWriter(str(folder), purge_step=purge if folder.exists() else None)
        config = json.dumps(run.config, indent=2, default=str)
        self._writer.add_text("config", f"```json\n{config}\n```", run.first_step)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_answers(self, table: AnswerTable) -> None:
        self._writer.add_text(table.title, markdown(table, COLUMNS), table.step)

    def log_checkpoint(self, step: int, folder: Path) -> None:
        self._writer.add_text("checkpoint", f"`{folder}`", step)

    def finish(self, status: RunStatus) -> None:
        self._writer.close()

    def release(self) -> None:
        """Nothing was changed."""
