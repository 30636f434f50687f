"""`rlkit report`: the report of a run that is over, killed or still going."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.errors import DataError


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"name": folder.name, "status": "running"}))
    return folders


def invoke(*arguments: object) -> str:
    return CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False).stdout.strip()


def test_the_page_of_a_run_is_written_into_its_folder_and_named(runs: list[Path]) -> None:
    assert invoke(runs[1]) == str(runs[1] / "report.html")
    assert "<title>b - rlkit report</title>" in (runs[1] / "report.html").read_text()


def test_several_runs_share_one_page(runs: list[Path], tmp_path: Path) -> None:
    assert invoke(*runs) == str(tmp_path / "comparison.html")
    assert "<title>a, b - rlkit report</title>" in (tmp_path / "comparison.html").read_text()


def test_the_file_can_be_named(runs: list[Path], tmp_path: Path) -> None:
    assert invoke(*runs, "--output", tmp_path / "new" / "page.html") == str(tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").is_file()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
