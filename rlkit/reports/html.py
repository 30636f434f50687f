"""The report: one file with its data, script and style inside, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from rlkit.reports.answers import read_answers, read_distribution, rollout_files
from rlkit.reports.charts import build_charts, stage_totals
from rlkit.reports.run_data import RunData, read_run
from rlkit.reports.tiles import build_tiles
from rlkit.tracking.output_file import check_writable
from rlkit.tracking.run_folder import RunFolder, write_atomically

SCRIPTS = ("format.js", "scales.js", "charts.js", "heatmap.js", "answers.js", "page.js")
REPORT_NAME = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into the run's folder and return its path. Raises `DataError` when the folder holds no run, `ConfigError` when it cannot be written to."""
    path = run_folder / REPORT_NAME
    page = render_report(read_run(run_folder))
    check_writable(path, remedy="make the run's folder writable, or copy it")
    write_atomically(path, page)
    return path


def render_report(data: RunData) -> str:
    """The whole page. Its policy forbids everything but its own script, whatever an answer holds."""
    # "<" would let an answer that holds "</script>" end the data.
    payload = json.dumps(page_content(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    script = "\n".join(['"use strict";', *map(_asset, SCRIPTS)])
    filled = {
        "TITLE": html.escape(f"{data.run.get('name', data.folder.name)} - rlkit report"),
        "STYLE": _asset("report.css"),
        "SCRIPT": script,
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "DATA": payload,
    }
    parts = _asset("page.html").split("@@")
    page = "".join(filled[part] if position % 2 else part for position, part in enumerate(parts))
    # Half of a surrogate pair, as a badly decoded answer may hold, has no UTF-8.
    return page.encode("utf-8", errors="replace").decode("utf-8")


def page_content(data: RunData) -> dict[str, Any]:
    """Everything that the page shows, as plain JSON values."""
    files = rollout_files(RunFolder(data.folder).rollouts)
    distribution = read_distribution(files)
    return {
        "run": _header(data),
        "tiles": [tile.as_json() for tile in build_tiles(data)],
        "charts": [chart.as_json() for chart in build_charts(data)],
        "stages": [{"name": name, "seconds": round(seconds, 6)} for name, seconds in stage_totals(data.steps)],
        "distribution": None if distribution is None else distribution.as_json(),
        "answers": read_answers(files),
        "config": _config_rows(data),
    }


def _header(data: RunData) -> dict[str, Any]:
    run = data.run
    config = data.config
    status = run.get("status", "")
    return {
        "name": run.get("name", data.folder.name),
        "kind": run.get("kind", ""),
        "status": status,
        # run.json keeps the error of an attempt that a later one has made good.
        "error": run.get("error", "") if status == "failed" else "",
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
    if run.get("status") == "running":
        return None
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
