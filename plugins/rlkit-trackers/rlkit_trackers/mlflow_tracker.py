"""MLflow: a server, or a store on this machine."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit_trackers.identity import remember_identity
from rlkit_trackers.options import MLflowOptions
from rlkit_trackers.tracker import COLUMNS, AnswerTable

LONGEST_PARAM = 500
"""Characters of a parameter that every store takes; the whole config is an artifact too."""
LONGEST_NAME = 250
BATCH = 100
"""Parameters in one request that every store takes."""
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflowTracker:
    """Metrics by step, config as parameters and `config.json`, answers as tables under `answers/`, checkpoints as tags."""

    settle_s: float | None = 0.0

    def __init__(self, options: MLflowOptions) -> None:
        self._options = options
        self._client: Any = None
        self._id = ""

    def start(self, run: RunInfo, run_id: str, *, resumed: bool) -> None:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # its chatter would tear the run's progress
        given = self._options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        beside = run.folder.parent.resolve()
        self._client = MlflowClient(tracking_uri=given or f"sqlite:///{beside / 'mlflow.db'}")
        if resumed:
            self._id = run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            # A local store of MLflow's own choice would put the files into the folder where the command is typed.
            experiment = self._experiment("" if given else (beside / "mlartifacts").as_uri())
            created = self._client.create_run(experiment, run_name=run.name, tags={"rlkit.kind": run.kind})
            self._id = created.info.run_id
            remember_identity(run, "mlflow", self._id)
            self._log_params(run.config)
        self._client.log_dict(self._id, dict(run.config), "config.json")

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [Metric(_name(name), float(value), now, step) for name, value in metrics.items()]
        for part in _parts(found):
            self._client.log_batch(self._id, metrics=part)

    def log_answers(self, table: AnswerTable) -> None:
        content = {"columns": list(COLUMNS), "data": [list(row) for row in table.rows]}
        self._client.log_text(
            self._id, json.dumps(content, ensure_ascii=False), f"{table.title}/step_{table.step:06d}.json"
        )

    def log_checkpoint(self, step: int, folder: Path) -> None:
        self._client.set_tag(self._id, "checkpoint.step", str(step))
        self._client.set_tag(self._id, "checkpoint.folder", str(folder))

    def finish(self, status: RunStatus) -> None:
        self._client.set_terminated(self._id, STATUS[status])

    def release(self) -> None:
        """Nothing was changed."""

    def _experiment(self, artifacts: str) -> str:
        """Its id; it is made if need be, with its files in `artifacts` (empty: where the server says)."""
        name = self._options.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=artifacts or None))

    def _log_params(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        texts = {_name(key): text[:LONGEST_PARAM] for key, text in _leaves(config)}
        for part in _parts([Param(key, text) for key, text in texts.items()]):
            self._client.log_batch(self._id, params=part)


def _name(name: str) -> str:
    """As MLflow takes it: data sources, parts of rewards and keys of options may be called anything."""
    return posixpath.normpath(re.sub(r"[^\w.\- :/]", "_", name)).lstrip("./")[:LONGEST_NAME] or "_"


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key -> value as text."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)
