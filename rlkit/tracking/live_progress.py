"""The live panel: a bar with times above the numbers that a person watches."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.tracking.headline_metrics import headlines, validation_line, write_seconds
from rlkit.tracking.pace import Pace
from rlkit.tracking.summary_line import finish_line, start_line

COLUMN_WIDTH = 20
"""Characters for one label and its value."""
REFRESHES_PER_S = 8


class LiveProgress:
    """Redraws in place; validations, checkpoints and warnings stay above as lines."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._step = 0

    def start(self, run: RunInfo) -> None:
        self._pace = Pace(run.total_steps, run.first_step)
        self._run, self._step = run, run.first_step
        self._metrics: dict[str, float] = {}
        self._console.print(Text(start_line(run), style="bold"))
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESHES_PER_S,
            get_renderable=self._render,
            # A print from a reward function belongs above the panel; into a pipe it goes as it is.
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )
        self._live.start()

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._pace.step_done(step)
        self._step = step
        self._metrics.update(metrics)

    def validation(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._metrics.update(metrics)
        line = f"after step {step}: {validation_line(metrics)}"
        self._console.print(Text.assemble(("validation ", "green"), line), soft_wrap=True)

    def checkpoint(self, run: RunInfo, step: int, folder: Path) -> None:
        self._console.print(Text.assemble(("checkpoint ", "green"), str(folder)), soft_wrap=True)

    def notice(self, message: str) -> None:
        self._console.print(Text(message, style="green"), soft_wrap=True)

    def warning(self, message: str) -> None:
        self._console.print(Text(f"warning: {message}", style="yellow"), soft_wrap=True)

    def finish(self, run: RunInfo, status: RunStatus) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._metrics:
            self._console.print(self._render())
        style = {"finished": "bold green", "interrupted": "bold yellow", "failed": "bold red"}[status]
        self._console.print(Text(finish_line(run, status, self._pace.elapsed_s), style=style), soft_wrap=True)

    def _render(self) -> RenderableType:
        return Group(self._bar(), *self._numbers())

    def _bar(self) -> RenderableType:
        remaining = self._pace.remaining_s
        times = write_seconds(self._pace.elapsed_s)
        if self._live is not None and remaining is not None and self._step < self._run.total_steps:
            times += f" · {write_seconds(remaining)} left"
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        row.add_row(
            f"step [bold]{self._step}[/]/{self._run.total_steps}",
            ProgressBar(total=max(self._run.total_steps, 1), completed=self._step, complete_style="cyan"),
            times,
        )
        return row

    def _numbers(self) -> list[RenderableType]:
        shown = headlines(self._run.kind, self._metrics)
        if not shown:
            return [Text("first step under way ...", style="dim")] if self._step == self._run.first_step else []
        columns = max(1, min(self._console.width // (COLUMN_WIDTH + 2), 6))
        table = Table.grid(padding=(0, 2))
        for _ in range(columns):
            table.add_column(width=COLUMN_WIDTH, no_wrap=True)
        for start in range(0, len(shown), columns):
            table.add_row(*(_cell(label, value) for label, value in shown[start : start + columns]))
        return [table]


def _cell(label: str, value: str) -> Text:
    space = max(1, COLUMN_WIDTH - len(label) - len(value))
    return Text.assemble((label, "dim"), " " * space, (value, "bold"))
