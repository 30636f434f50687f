"""When a run is complete, and when it has to go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.pipelines.starting_point import StartingPoint, already_finished
from rlkit.tracking.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run of 10 steps."""
    made = RunFolder(tmp_path)
    made.describe(status="finished")
    made.model.mkdir()
    (made.model / "config.json").touch()
    return made


def test_a_finished_run_is_complete_and_says_where_its_model_is(folder, capsys):
    assert already_finished(folder, StartingPoint(10, folder.path), 10)
    assert f"its model is {folder.model}" in capsys.readouterr().out


def test_more_steps_or_a_missing_model_let_it_go_on(folder):
    assert not already_finished(folder, StartingPoint(10, folder.path), 12)
    (folder.model / "config.json").unlink()
    assert not already_finished(folder, StartingPoint(10, folder.path), 10)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_model_of_an_earlier_interruption_does_not_make_it_complete(folder, status):
    folder.describe(status=status)
    assert not already_finished(folder, StartingPoint(10, folder.path), 10)
