"""The first and the last line of a run, the same in every view."""

from __future__ import annotations

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.tracking.headline_metrics import write_seconds


def start_line(run: RunInfo) -> str:
    """What runs, and from where when it is resumed."""
    place = f" in {run.folder}" if run.kind != "generate" else ""
    one, many = ("batch", "batches") if run.kind == "generate" else ("step", "steps")
    resumed = f", going on after {one} {run.first_step}" if run.first_step else ""
    return f"{run.kind} '{run.name}'{place}: {run.total_steps:,} {one if run.total_steps == 1 else many}{resumed}"


def finish_line(run: RunInfo, status: RunStatus, elapsed_s: float) -> str:
    """How it ended, after how long, and where the result is."""
    line = f"{run.kind} '{run.name}' {status} after {write_seconds(elapsed_s)}"
    if run.kind == "generate" or status == "failed":
        return line
    parts = [f"{run.folder / 'model'}"] if status == "finished" else []
    return f"{line}: {', '.join([*parts, str(run.folder / 'report.html')])}"
