"""`rlkit runs`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"kind": "ppo", "name": name, "config": {"actor": {"lr": lr}}}))
    return tmp_path / "runs"


def invoke(*arguments: str) -> str:
    return CliRunner().invoke(app, ["runs", *arguments], catch_exceptions=False).stdout


def test_runs_of_a_folder_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert [line.split()[0] for line in invoke("list").splitlines()] == ["run", "runs/a", "runs/b"]
    assert [run["name"] for run in json.loads(invoke("list", str(folder), "--json"))] == ["a", "b"]


def test_runs_are_compared(folder: Path) -> None:
    paths = [str(folder / name) for name in "ab"]
    assert "actor.lr  0.1  0.2" in invoke("compare", *paths)
    assert json.loads(invoke("compare", *paths, "--json"))["settings"] == [
        {"key": "actor.lr", "values": ["0.1", "0.2"]}
    ]
