"""trackio: a store on this machine, a Space of the Hub, or a server of one's own."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit_trackers.options import TrackioOptions
from rlkit_trackers.tracker import COLUMNS, AnswerTable


class TrackioTracker:
    """Metrics by step with the config, answers as tables, checkpoints as a table of one row."""

    settle_s: float | None = 30.0  # it sends in batches

    def __init__(self, options: TrackioOptions) -> None:
        self._options = options
        self._run: Any = None
        self._output: _MainThreadOnly | None = None

    def start(self, run: RunInfo, run_id: str, *, resumed: bool) -> None:
        options = self._options
        if options.folder:
            os.environ["TRACKIO_DIR"] = str(Path(options.folder).resolve())  # read when trackio is first imported
        self._output = _MainThreadOnly(sys.stdout)
        sys.stdout = self._output
        import trackio

        # Its runs are found by their names; those of two run folders may be called alike.
        self._run = trackio.init(
            project=options.project,
            name=f"{run.name}-{run_id[:6]}",
            group=options.group or None,
            space_id=options.space_id or None,
            server_url=options.server_url or None,
            config=dict(run.config),
            resume="allow" if resumed else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=step)

    def log_answers(self, table: AnswerTable) -> None:
        self._log_table(table.step, table.title, COLUMNS, [list(row) for row in table.rows])

    def log_checkpoint(self, step: int, folder: Path) -> None:
        self._log_table(step, "checkpoint", ("step", "folder"), [[step, str(folder)]])

    def finish(self, status: RunStatus) -> None:
        self._run.finish()

    def release(self) -> None:
        if sys.stdout is self._output and self._output is not None:
            sys.stdout = self._output.stream

    def _log_table(self, step: int, title: str, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
        import trackio

        self._run.log({title: trackio.Table(columns=list(columns), data=rows)}, step=step)


class _MainThreadOnly:
    """Standard output without what threads print: trackio greets and explains itself there, among a run's JSON lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(text) if threading.current_thread() is threading.main_thread() else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
