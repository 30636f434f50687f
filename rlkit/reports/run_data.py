"""Reading what a run has left behind, whole or cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rlkit.errors import DataError
from rlkit.reports.finite import is_drawable
from rlkit.tracking.run_folder import RunFolder
from rlkit.tracking.validation_record import SCORE_METRICS, ValidationRecord, ValidationScore


@dataclass(frozen=True)
class MetricRow:
    """The metrics of one step or validation; `time` is seconds since the epoch, or None."""

    step: int
    time: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunData:
    """One run: run.json, and the metrics of its steps and validations in the order of steps."""

    folder: Path
    run: Mapping[str, Any]
    steps: tuple[MetricRow, ...]
    validations: tuple[MetricRow, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        config = self.run.get("config")
        return config if isinstance(config, Mapping) else {}

    @property
    def name(self) -> str:
        return str(self.run.get("name") or self.folder.name)

    def metric_names(self) -> list[str]:
        """Every metric that a step has, in the order of first appearance."""
        return list(dict.fromkeys(name for row in self.steps for name in row.values))


def read_run(folder: Path) -> RunData:
    """Read run.json and metrics.jsonl. Raises `DataError` when the folder holds no run."""
    paths = RunFolder(folder)
    if not paths.run_json.is_file():
        raise DataError(f"{folder} holds no run (run.json is missing); give a folder such as runs/ppo")
    try:
        run = json.loads(paths.run_json.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{paths.run_json} cannot be read ({error}); a report needs it") from error
    if not isinstance(run, dict):
        raise DataError(f"{paths.run_json} does not describe a run; a report needs it")
    events = _read_events(paths.metrics)
    return RunData(folder, run, _rows(events, "step"), _rows(events, "validation"))


def best_validation(rows: Sequence[MetricRow]) -> ValidationScore | None:
    """The best validated step of a trained model, as the run itself chooses it; None without scores or with a single one."""
    record = ValidationRecord()
    scored = [row for row in rows if row.values.keys() >= SCORE_METRICS]
    for row in scored:
        record.note(row.step, row.values)
    return record.best if len(scored) > 1 else None


def _read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that is cut off (a killed run) or damaged is passed over."""
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("step"), int):
            events.append(event)
    return events


def _rows(events: Sequence[Mapping[str, Any]], kind: str) -> tuple[MetricRow, ...]:
    """A resumed run repeats the steps after its checkpoint: the last line of a step counts."""
    latest: dict[int, MetricRow] = {}
    for event in events:
        if event.get("event") != kind:
            continue
        metrics = event.get("metrics")
        values = {
            name: float(value)
            for name, value in (metrics.items() if isinstance(metrics, dict) else ())
            if is_drawable(value)
        }
        time = event.get("time")
        latest[event["step"]] = MetricRow(event["step"], time if is_drawable(time) else None, values)
    return tuple(latest[step] for step in sorted(latest))


def run_labels(runs: Sequence[RunData]) -> list[str]:
    """The runs' names, told apart by their folders where two have the same."""
    names = [run.name for run in runs]
    apart = [run.name if names.count(run.name) == 1 else "/".join(run.folder.resolve().parts[-2:]) for run in runs]
    return [label if apart.count(label) == 1 else f"{label} ({at + 1})" for at, label in enumerate(apart)]


def duration_s(run: Mapping[str, Any]) -> float | None:
    """From the start (of the last resumption, when there was one) to the end; None while it is not known."""
    if run.get("status") == "running":
        return None
    try:
        started = (run.get("resumed") or [run.get("started")])[-1]
        seconds = (datetime.fromisoformat(run["ended"]) - datetime.fromisoformat(started)).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if seconds >= 0 else None  # somebody has set the clock
