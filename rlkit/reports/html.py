"""The report: one file with its data, script and style inside, which loads nothing from anywhere.

head, style                        page.html up to its data
<script id="block-0"> ...          answers and token texts, packed, written one by one
<script id="data">                 everything else as plain JSON
<script>                           the page's own script, the only one that its policy lets run
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

from rlkit.errors import ConfigError
from rlkit.reports.answers import MAX_ANSWERS, write_answers
from rlkit.reports.charts import stage_totals
from rlkit.reports.distributions import read_distributions
from rlkit.reports.log_messages import read_messages
from rlkit.reports.mismatch import Mismatch, read_mismatch
from rlkit.reports.overlay import overlaid_charts
from rlkit.reports.packing import BlockWriter
from rlkit.reports.rollout_files import rollout_files
from rlkit.reports.run_data import RunData, duration_s, read_run, run_labels
from rlkit.reports.settings import read_settings
from rlkit.reports.tiles import build_tiles
from rlkit.reports.token_texts import token_texts
from rlkit.reports.validations import validation_table
from rlkit.tracking.output_file import check_writable
from rlkit.tracking.run_folder import RunFolder

SCRIPTS = (
    "format.js", "scales.js", "blocks.js", "toolbar.js", "curves.js", "charts.js", "heatmap.js", "tables.js",
    "answer_list.js", "answer_detail.js", "tokens.js", "answers.js", "mismatch.js", "page.js",
)  # fmt: skip
STYLES = ("report.css", "charts.css", "answers.css")
REPORT_NAME = "report.html"
COMPARISON_NAME = "comparison.html"
MAX_RUNS = 12
"""Runs in one page: more colours cannot be told apart."""


def write_report(*folders: Path, output: Path | None = None) -> Path:
    """Write the report of one run, or of several overlaid, and return its path.

    output  None: `report.html` in the run's folder; for several, `comparison.html` beside the first run's folder

    Raises `DataError` when a folder holds no run, `ConfigError` for too many runs and when the file cannot be written.
    """
    if not 1 <= len(folders) <= MAX_RUNS:
        raise ConfigError(f"a report of {len(folders)} runs; give 1 to {MAX_RUNS}")
    runs = [read_run(folder) for folder in folders]
    beside = folders[0] / REPORT_NAME if len(runs) == 1 else folders[0].parent / COMPARISON_NAME
    path = output or beside
    check_writable(path, remedy="name another file with --output")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Half of a surrogate pair, as a badly decoded answer may hold, has no UTF-8.
        with aside.open("w", encoding="utf-8", errors="replace") as file:
            render_report(runs, file)
        return aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def render_report(runs: Sequence[RunData], file: TextIO) -> None:
    """Write the whole page. Its policy forbids everything but its own script, whatever an answer holds."""
    script = "\n".join(['"use strict";', *map(_asset, SCRIPTS)])
    title = ", ".join(run_labels(runs))
    filled = {
        "TITLE": html.escape(f"{title} - rlkit report"),
        "STYLE": "\n".join(map(_asset, STYLES)),
        "SCRIPT": script,
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    for position, part in enumerate(_asset("page.html").split("@@")):
        if position % 2 == 0:
            file.write(part)
        elif part == "DATA":
            content = page_content(runs, BlockWriter(file.write))
            # "<" would let an answer that holds "</script>" end the data.
            payload = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
            file.write(f'<script type="application/json" id="data">{payload}</script>')
        else:
            file.write(filled[part])


def page_content(runs: Sequence[RunData], blocks: BlockWriter) -> dict[str, Any]:
    """What the page shows at once, as plain JSON values; the rest goes into `blocks`."""
    return {
        "runs": [
            {"label": label, **_run_content(run, blocks, MAX_ANSWERS // len(runs))}
            for label, run in zip(run_labels(runs), runs, strict=True)
        ],
        "charts": overlaid_charts(runs),
        "settings": [setting.as_json() for setting in read_settings(runs)],
    }


def _run_content(data: RunData, blocks: BlockWriter, limit: int) -> dict[str, Any]:
    folder = RunFolder(data.folder)
    files = rollout_files(folder.rollouts)
    mismatch: Mismatch | None = read_mismatch(files)
    index = write_answers(
        files, blocks, limit=limit, wanted=mismatch.rows_of if mismatch is not None else lambda _step: ()
    )
    ids = index.token_ids | ({token.token for token in mismatch.worst} if mismatch is not None else set())
    texts = token_texts(data, ids)
    return {
        **_header(data),
        "tiles": [tile.as_json() for tile in build_tiles(data)],
        "clock": _clock(data),
        "stages": [{"name": name, "seconds": round(seconds, 6)} for name, seconds in stage_totals(data.steps)],
        "validations": validation_table(data.validations),
        "distributions": [distribution.as_json() for distribution in read_distributions(files)],
        "mismatch": None if mismatch is None else mismatch.as_json(index.places),
        "answers": {
            "count": len(index),
            "total": index.total,
            "index": blocks.add(index.as_json()) if len(index) else None,
            "blocks": index.blocks,
            "vocabulary": blocks.add(texts) if texts else None,
        },
        "messages": [message.as_json() for message in read_messages(folder.log)],
    }


def _header(data: RunData) -> dict[str, Any]:
    run = data.run
    config = data.config
    status = run.get("status", "")
    return {
        "kind": run.get("kind", ""),
        "status": status,
        # run.json keeps the error of an attempt that a later one has made good.
        "error": run.get("error", "") if status == "failed" else "",
        "started": run.get("started", ""),
        "ended": run.get("ended", ""),
        "duration_s": duration_s(run),
        "resumed": len(run.get("resumed") or []),
        "steps": data.steps[-1].step if data.steps else 0,
        "model": _lookup(config, "model", "path"),
        "seed": _lookup(config, "run", "seed"),
        "device": _lookup(config, "run", "device"),
        "versions": run.get("versions") or {},
        "plugins": run.get("plugins") or [],
        "command": " ".join(map(str, run.get("command") or [])),
    }


def _clock(data: RunData) -> dict[str, Any]:
    """Seconds from the beginning of the first step to the end of each; empty where no times were kept."""
    timed = [(row.step, row.time, row) for row in data.steps if row.time is not None]
    if not timed:
        return {"steps": [], "seconds": []}
    begin = timed[0][1] - timed[0][2].values.get("time/step_s", 0.0)
    return {"steps": [step for step, _, _ in timed], "seconds": [round(time - begin, 2) for _, time, _ in timed]}


def _lookup(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _asset(name: str) -> str:
    return resources.files("rlkit.reports").joinpath("assets", name).read_text(encoding="utf-8")
