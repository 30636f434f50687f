"""What `rlkit runs list` shows: every run below a folder, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rlkit.errors import ConfigError, DataError
from rlkit.reports.key_metric import KeyMetric, key_metric
from rlkit.reports.run_data import RunData, duration_s, read_run
from rlkit.reports.text_table import render_table
from rlkit.tracking.headline_metrics import write_seconds

DEPTH = 3
"""Folders below the given one in which runs are looked for."""


@dataclass(frozen=True)
class RunSummary:
    """total_steps: of the complete run, None where it is not known; duration_s as in `run_data.duration_s`; started: ISO 8601."""

    folder: Path
    name: str
    kind: str
    status: str
    steps: int
    total_steps: int | None
    metric: KeyMetric | None
    duration_s: float | None
    started: str

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "steps": self.steps,
            "total_steps": self.total_steps,
            "metric": None if self.metric is None else self.metric.as_json(),
            "duration_s": self.duration_s,
            "started": self.started,
        }


def summarise_runs(folder: Path) -> list[RunSummary]:
    """Every run in `folder`, or the one that it is; a run.json that cannot be read counts as none. Raises `ConfigError` for a folder without runs."""
    if not folder.is_dir():
        raise ConfigError(f"folder '{folder}' does not exist; give the folder that holds the run folders")
    files = sorted(file for depth in range(DEPTH + 1) for file in folder.glob("*/" * depth + "run.json"))
    summaries = []
    for file in files:
        try:
            summaries.append(summarise(read_run(file.parent)))
        except DataError:
            continue
    if not summaries:
        raise ConfigError(f"folder '{folder}' holds no runs; give the folder that holds the run folders")
    return sorted(summaries, key=lambda one: one.started, reverse=True)


def summarise(run: RunData) -> RunSummary:
    """One line of the list."""
    content = run.run
    trainer = run.config.get("trainer")
    total = trainer.get("steps") if isinstance(trainer, dict) else None
    return RunSummary(
        folder=run.folder,
        name=run.name,
        kind=str(content.get("kind", "")),
        status=str(content.get("status", "")),
        steps=run.steps[-1].step if run.steps else 0,
        total_steps=total if isinstance(total, int) and total > 0 else None,
        metric=key_metric(run),
        duration_s=duration_s(content),
        started=str(content.get("started", "")),
    )


def render_runs(summaries: Sequence[RunSummary]) -> str:
    """A table for a terminal."""
    rows = [
        (
            str(one.folder),
            one.kind,
            "running?" if one.status == "running" else one.status,
            f"{one.steps:,}" + ("" if one.total_steps in (None, one.steps) else f"/{one.total_steps:,}"),
            "-" if one.metric is None else str(one.metric),
            "-" if one.duration_s is None else write_seconds(one.duration_s),
            when(one.started),
        )
        for one in summaries
    ]
    return render_table(("run", "kind", "status", "steps", "key metric", "took", "started"), rows, right=(3, 5))


def when(started: str) -> str:
    """2026-01-31 17:05, in local time."""
    try:
        return datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return "-"
