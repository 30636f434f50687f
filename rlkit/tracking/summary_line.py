"""The first and the last line of a run, the same in every view."""

from __future__ import annotations

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.tracking.headline_metrics import write_seconds


def start_line(run: RunInfo) -> str:
    """What runs, and from where when it is resumed."""
    place = f" in {run.folder}" if run.kind != "generate" else ""
    resumed = f", going on after step {run.first_step}" if run.first_step else ""
    unit = "batches" if run.kind == "generate" else "steps"
    return f"{run.kind} '{run.name}'{place}: {run.total_steps:,} {unit}{resumed}"


def finish_line(run: RunInfo, status: RunStatus, elapsed_s: float) -> str:
    """How it ended, after how long, and where the result is."""
    line = f"{run.kind} '{run.name}' {status} after {write_seconds(elapsed_s)}"
    if run.kind == "generate" or status == "failed":
        return line
    parts = [f"{run.folder / 'model'}"] if status == "finished" else []
    return f"{line}: {', '.join([*parts, str(run.folder / 'report.html')])}"
