"""Progress on the terminal: a live panel for people, plain lines for logs, JSON lines for machines.

RLKIT_OUTPUT chooses: auto (a panel on a terminal, plain lines elsewhere), plain, json. What rlkit logs as a warning or
a notice is shown by the same view, so that it never tears the panel.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rlkit.plugin.hookspecs import RunInfo, RunStatus, hookimpl
from rlkit.tracking.run_folder import LOGGER, NOTICE

OUTPUT_VARIABLE = "RLKIT_OUTPUT"
OUTPUTS = ("auto", "plain", "json")


class ProgressView(Protocol):
    """One way to show a run; times are seconds since the run (re)started."""

    def start(self, run: RunInfo) -> None: ...

    def step(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None: ...

    def validation(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None: ...

    def checkpoint(self, run: RunInfo, step: int, folder: Path) -> None: ...

    def notice(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def finish(self, run: RunInfo, status: RunStatus) -> None: ...


def choose_view() -> ProgressView:
    """The view that RLKIT_OUTPUT and the terminal ask for."""
    chosen = os.environ.get(OUTPUT_VARIABLE) or "auto"
    if chosen not in OUTPUTS:
        print(f"warning: {OUTPUT_VARIABLE} is '{chosen}', not {', '.join(OUTPUTS)}; taken as auto", file=sys.stderr)
        chosen = "auto"
    if chosen == "json":
        from rlkit.tracking.json_progress import JsonProgress

        return JsonProgress(sys.stdout)
    if chosen == "auto" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rlkit.tracking.live_progress import LiveProgress

        return LiveProgress()
    from rlkit.tracking.plain_progress import PlainProgress

    return PlainProgress(sys.stderr)


class ConsoleHook:
    """Passes the run's events to the chosen view."""

    def __init__(self) -> None:
        self._view = choose_view()
        self._messages = _ShownMessages(self._view)

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        self._view.start(run)
        LOGGER.addHandler(self._messages)

    @hookimpl
    def step_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._view.step(run, step, metrics)

    @hookimpl
    def validation_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        self._view.validation(run, step, metrics)

    @hookimpl
    def checkpoint_saved(self, run: RunInfo, step: int, folder: Path) -> None:
        self._view.checkpoint(run, step, folder)

    @hookimpl
    def run_finished(self, run: RunInfo, status: RunStatus) -> None:
        LOGGER.removeHandler(self._messages)
        self._view.finish(run, status)


class _ShownMessages(logging.Handler):
    """Without it, warnings and notices of a run would be seen in log.txt only."""

    def __init__(self, view: ProgressView) -> None:
        super().__init__(NOTICE)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        show = self._view.warning if record.levelno >= logging.WARNING else self._view.notice
        show(record.getMessage())
