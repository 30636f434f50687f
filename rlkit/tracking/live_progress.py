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
from rlkit.tracking.headline_metrics import Headline, known_headlines, validation_line, write_seconds
from rlkit.tracking.metric_trend import BARS, PLAIN_BARS, MetricTrends, sparkline
from rlkit.tracking.pace import Pace
from rlkit.tracking.summary_line import finish_line, start_line

LABEL_WIDTH, VALUE_WIDTH, CHANGE_WIDTH = 10, 8, 9
TREND_WIDTHS = (24, 16, 8, 0)
"""Characters of the sparkline; the widest that leaves room for two columns, or for one, is taken."""
GAP = 3
BAR_WIDTH = 110
"""Characters of the whole line with the bar: as wide as two columns of metrics."""
REFRESHES_PER_S = 4


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
        self._trends = MetricTrends()
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
        self._trends.note(metrics)

    def validation(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._metrics.update(metrics)
        self._trends.note(metrics)
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
        row = Table.grid(padding=(0, 1))
        row.width = min(self._console.width, BAR_WIDTH)
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
        shown = known_headlines(self._run.kind, self._metrics)
        if not shown:
            return [Text("first step under way ...", style="dim")] if self._step == self._run.first_step else []
        columns, trend = _layout(self._console.width)
        rows = -(-len(shown) // columns)
        # The terminal would scroll, and leave torn copies behind, if the panel were higher than it.
        rows = min(rows, max(1, self._console.height - 3))
        table = Table.grid(padding=(0, GAP, 0, 0))
        for _ in range(columns):
            table.add_column(no_wrap=True)
        for row in range(rows):
            cells = [self._cell(shown[at], trend) for at in range(row, len(shown), rows)][:columns]
            table.add_row(*cells)
        return [table]

    def _cell(self, headline: Headline, trend: int) -> Text:
        value = headline.write(self._metrics[headline.metric])
        change = self._trends.change(headline.metric)
        bars = BARS if _has_bars(self._console.encoding) else PLAIN_BARS
        line = sparkline(self._trends.values(headline.metric), trend, bars=bars)
        return Text.assemble(
            (f"{headline.label:<{LABEL_WIDTH}} ", "dim"),
            (f"{value:>{VALUE_WIDTH}}", "bold"),
            (f" {'' if change is None else headline.write_change(change):<{CHANGE_WIDTH}}", "dim"),
            (f" {line:<{trend}}" if trend else "", "cyan"),
        )


def _layout(width: int) -> tuple[int, int]:
    """Columns of metrics and characters of a sparkline that fit into a terminal of `width`."""
    for columns in (2, 1):
        for trend in TREND_WIDTHS:
            cell = LABEL_WIDTH + VALUE_WIDTH + CHANGE_WIDTH + 2 + (trend + 1 if trend else 0)
            if columns * cell + (columns - 1) * GAP < width and (trend or columns == 1):
                return columns, trend
    return 1, 0


def _has_bars(encoding: str) -> bool:
    try:
        BARS.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
