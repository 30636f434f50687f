"""Run folders made to measure, as a run leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from report_page import read_page

from rlkit.reports.html import write_report

MakeRun = Callable[..., Path]

RUN = {
    "kind": "ppo",
    "name": "trial",
    "status": "finished",
    "started": "2026-01-01T10:00:00+00:00",
    "ended": "2026-01-01T10:01:30+00:00",
    "resumed": [],
    "config": {"run": {"seed": 3, "device": "cpu"}, "model": {"path": "models/start"}, "actor": {"lr": 0.001}},
    "origins": {"actor.lr": "ppo.toml:7"},
    "versions": {"torch": "2.13.0"},
    "plugins": [{"kind": "actor_backend", "name": "fsdp", "distribution": "rlkit-fsdp", "version": "0.1.0"}],
    "command": ["rlkit", "train", "ppo"],
}


def write_answers(folder: Path, step: int, answers: Sequence[Mapping[str, Any]]) -> None:
    """The columns of a rollouts file that a report reads; an answer names what is special about it."""
    import pyarrow as pa
    from pyarrow import parquet

    usual = {
        "row_id": 0,
        "group_id": 0,
        "data_source": "sums",
        "question": "1+1=?",
        "reference": '"2"',
        "response": "2",
        "finish_reason": "stop",
        "score": 1.0,
        "parts": "{}",
        "error": None,
        "response_ids": [5, 6],
    }
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        pa.Table.from_pylist([{**usual, **answer} for answer in answers]), folder / f"step_{step:06d}.parquet"
    )


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run folder with run.json (entries replaced by `run`), events and answers by step; None leaves a file out."""

    def make(
        *,
        name: str = "trial",
        run: Mapping[str, Any] | None = None,
        steps: Mapping[int, Mapping[str, Any]] | None = None,
        validations: Mapping[int, Mapping[str, Any]] | None = None,
        answers: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({**RUN, **(run or {})}))
        if steps is not None or validations is not None:
            lines = [{"event": "validation", "step": s, "metrics": m} for s, m in (validations or {}).items()]
            lines += [{"event": "step", "step": s, "metrics": m} for s, m in (steps or {}).items()]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for step, rows in (answers or {}).items():
            write_answers(folder / "rollouts", step, rows)
        return folder

    return make


@pytest.fixture
def page_of() -> Callable[[Path], str]:
    """The text of the report of a run folder."""
    return lambda folder: write_report(folder).read_text(encoding="utf-8")


@pytest.fixture
def content_of(page_of: Callable[[Path], str]) -> Callable[[Path], dict[str, Any]]:
    """The page of one run, read back; the run's own content beside that of the page."""

    def read(folder: Path) -> dict[str, Any]:
        content = read_page(page_of(folder))
        return {**content, **content["runs"][0]}

    return read
