"""The charts of several runs laid over one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlkit.reports.charts import Chart, build_charts, step_time_chart
from rlkit.reports.run_data import RunData


def overlaid_charts(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Charts as the page draws them; each series says which run it belongs to.

    A chart that only some runs have holds those. Stacked ones cannot be laid over one another: several runs show the
    time of a whole step instead.
    """
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for number, run in enumerate(runs):
        for chart in _charts(run, alone=len(runs) == 1):
            made = chart.as_json()
            series = [{**one, "run": number} for one in made["series"]]
            known = merged.setdefault((chart.group, chart.title), {**made, "series": []})
            known["series"] += series
            if len(runs) > 1 and known["note"] != made["note"]:
                known["note"] = _shared_note(known["note"], made["note"])
    return list(merged.values())


def _charts(run: RunData, *, alone: bool) -> list[Chart]:
    if alone:
        return build_charts(run)
    charts = [chart for chart in build_charts(run) if chart.kind != "stack"]
    whole = step_time_chart(run.steps)
    return charts if whole is None else [*charts, whole]


def _shared_note(first: str, second: str) -> str:
    """What both say: a note may go on with what is true of one run only ("...; best at step 40")."""
    shared = [one for one, other in zip(first.split("; "), second.split("; "), strict=False) if one == other]
    return "; ".join(shared)
