"""When a run is complete, and when it has to go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.runs import SFTConfig
from rlkit.errors import CheckpointError
from rlkit.pipelines.starting_point import StartingPoint, already_finished, starting_point
from rlkit.tracking.checkpoints import CheckpointStore
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


class TestNoneIsWhole:
    @pytest.fixture
    def store(self, folder) -> CheckpointStore:
        store = CheckpointStore(folder.checkpoints)
        (store.write(3, lambda target: (target / "a").touch()) / "a").unlink()
        return store

    def test_the_run_starts_from_the_beginning_and_says_so(self, folder, store, caplog):
        assert starting_point(folder, store, SFTConfig()) == StartingPoint(0, None)
        assert "step_000003 lacks a" in caplog.text
        assert f"no checkpoint in {store.folder} is whole; the run starts from the beginning" in caplog.text
        assert f"what it wrote before is in {folder.path / 'before-1'}" in caplog.text

    def test_what_it_wrote_before_is_moved_aside_and_not_deleted(self, folder, store):
        folder.metrics.write_text("lines")
        for inner in (folder.rollouts, folder.validation):
            inner.mkdir()
            (inner / "step_000003.parquet").touch()
        (folder.path / "before-1").mkdir()
        starting_point(folder, store, SFTConfig())
        aside = folder.path / "before-2"
        found = {path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file()}
        assert found == {
            "metrics.jsonl",
            "rollouts/step_000003.parquet",
            "validation/step_000003.parquet",
            "checkpoints/step_000003/manifest.json",
        }
        assert not folder.metrics.exists() and not store.steps()

    def test_one_that_must_resume_is_refused(self, folder, store):
        with pytest.raises(CheckpointError, match=r"run\.resume = must, but none of the 1 checkpoints"):
            starting_point(folder, store, SFTConfig(), must_resume=True)


class TestNoCheckpoint:
    @pytest.fixture
    def empty(self, folder) -> CheckpointStore:
        (folder.checkpoints / ".step_000001.partial").mkdir(parents=True)
        folder.metrics.touch()
        return CheckpointStore(folder.checkpoints)

    def test_the_run_starts_quietly(self, folder, empty, caplog):
        assert starting_point(folder, empty, SFTConfig()) == StartingPoint(0, None)
        assert not caplog.records and not list(folder.checkpoints.iterdir())

    def test_one_that_must_resume_is_refused_and_left_as_it_is(self, folder, empty):
        before = sorted(folder.path.rglob("*"))
        with pytest.raises(CheckpointError, match=r"run\.resume = must, but .*checkpoints holds no checkpoint"):
            starting_point(folder, empty, SFTConfig(), must_resume=True)
        assert sorted(folder.path.rglob("*")) == before
