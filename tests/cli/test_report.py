"""`rlkit report`: the report of a run that is over, killed or still going."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.errors import DataError


def test_each_run_s_page_is_written_and_named(tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"name": run.name, "status": "running"}))
    result = CliRunner().invoke(app, ["report", *map(str, runs)], catch_exceptions=False)
    assert result.stdout.splitlines() == [str(run / "report.html") for run in runs]
    assert "<title>b - rlkit report</title>" in (runs[1] / "report.html").read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
