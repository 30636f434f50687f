"""The report: one file with its data, script and style inside, which loads nothing from anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from rlkit.reports.answers import read_answers, read_distribution, rollout_files
from rlkit.reports.charts import build_charts
from rlkit.reports.run_data import RunData, read_run
from rlkit.reports.tiles import build_tiles
from rlkit.tracking.run_folder import RunFolder, write_atomically

SCRIPTS = ("format.js", "charts.js", "heatmap.js", "answers.js", "page.js")
REPORT_NAME = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path. Raises `DataError` when the folder holds no run."""
    path = run_folder / REPORT_NAME
    write_atomically(path, render_report(read_run(run_folder)))
    return path


def render_report(data: RunData) -> str:
    """The whole page."""
    # "<" would let an answer that holds "</script>" end the data.
    payload = json.dumps(page_content(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    page = _asset("page.html")
    filled = {
        "TITLE": html.escape(f"{data.run.get('name', data.folder.name)} - rlkit report"),
        "STYLE": _asset("report.css"),
        "SCRIPT": "\n".join(_asset(name) for name in SCRIPTS),
        "DATA": payload,
    }
    parts = page.split("@@")
    return "".join(filled[part] if position % 2 else part for position, part in enumerate(parts))


def page_content(data: RunData) -> dict[str, Any]:
    """Everything that the page shows, as plain JSON values."""
    files = rollout_files(RunFolder(data.folder).rollouts)
    distribution = read_distribution(files)
    return {
        "run": _header(data),
        "tiles": [tile.as_json() for tile in build_tiles(data)],
        "charts": [chart.as_json() for chart in build_charts(data)],
        "distribution": None if distribution is None else distribution.as_json(),
        "answers": read_answers(files),
        "config": _config_rows(data),
    }


def _header(data: RunData) -> dict[str, Any]:
    run = data.run
    config = data.config
    return {
        "name": run.get("name", data.folder.name),
        "kind": run.get("kind", ""),
        "status": run.get("status", ""),
        "error": run.get("error", ""),
        "started": run.get("started", ""),
        "ended": run.get("ended", ""),
        "duration_s": _duration_s(run),
        "resumed": len(run.get("resumed") or []),
        "steps": data.steps[-1].step if data.steps else 0,
        "model": _lookup(config, "model", "path"),
        "seed": _lookup(config, "run", "seed"),
        "device": _lookup(config, "run", "device"),
        "versions": run.get("versions") or {},
        "plugins": run.get("plugins") or [],
        "command": " ".join(map(str, run.get("command") or [])),
    }


def _duration_s(run: Mapping[str, Any]) -> float | None:
    """From the start (of the last resumption, when there was one) to the end."""
    started = (run.get("resumed") or [run.get("started")])[-1]
    try:
        return (datetime.fromisoformat(run["ended"]) - datetime.fromisoformat(started)).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _config_rows(data: RunData) -> list[dict[str, str]]:
    origins = data.run.get("origins") or {}
    return [
        {"key": key, "value": json.dumps(value, ensure_ascii=False), "origin": str(origins.get(key, "default"))}
        for key, value in _leaves(data.config)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += _leaves(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def _lookup(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _asset(name: str) -> str:
    return resources.files("rlkit.reports").joinpath("assets", name).read_text(encoding="utf-8")
