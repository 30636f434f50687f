from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.tracking.run_folder import LOGGER, RunFolder, close_log, installed_versions, write_atomically


def started(folder: Path, kind: str = "ppo") -> RunFolder:
    run = RunFolder.open(kind, str(folder), "first", resume="auto")
    run.start(kind, "first", {"run": {"seed": 1}}, {"run.seed": "default"}, [{"kind": "hook", "name": "jsonl"}])
    return run


class TestOpen:
    def test_a_new_folder_is_created_with_its_parents(self, tmp_path):
        run = RunFolder.open("ppo", str(tmp_path / "a" / "b"), "first", resume="auto")
        assert run.path == tmp_path / "a" / "b" / "first"
        assert run.path.is_dir()
        assert run.read() == {}

    def test_never_refuses_a_used_folder(self, tmp_path):
        started(tmp_path)
        with pytest.raises(ConfigError, match=r"is in use and run\.resume = never; choose another --name"):
            RunFolder.open("ppo", str(tmp_path), "first", resume="never")

    def test_must_refuses_an_unused_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="holds no run"):
            RunFolder.open("ppo", str(tmp_path), "first", resume="must")
        assert not (tmp_path / "first").exists()

    @pytest.mark.parametrize("resume", ["auto", "must"])
    def test_a_used_folder_is_taken_up_again(self, tmp_path, resume):
        started(tmp_path)
        assert RunFolder.open("ppo", str(tmp_path), "first", resume=resume).read()["kind"] == "ppo"

    def test_a_run_of_another_kind_is_refused(self, tmp_path):
        started(tmp_path, kind="sft")
        with pytest.raises(ConfigError, match="holds a run of kind sft, not ppo"):
            RunFolder.open("ppo", str(tmp_path), "first", resume="auto")

    def test_a_file_in_the_way_is_a_clear_error(self, tmp_path):
        (tmp_path / "runs").write_text("")
        with pytest.raises(ConfigError, match=r"cannot create run folder .*runs.first: .*; choose another --output"):
            RunFolder.open("ppo", str(tmp_path / "runs"), "first", resume="auto")

    @pytest.mark.parametrize("text", ["", "{", "[1]"])
    def test_a_damaged_description_is_a_clear_error(self, tmp_path, text):
        started(tmp_path).run_json.write_text(text)
        with pytest.raises(ConfigError, match=r"run\.json .*repair it, or choose another --name"):
            RunFolder.open("ppo", str(tmp_path), "first", resume="auto")


class TestDescription:
    def test_a_started_run_says_what_it_is_made_of(self, tmp_path):
        content = started(tmp_path).read()
        assert content["status"] == "running"
        assert content["config"] == {"run": {"seed": 1}}
        assert content["origins"] == {"run.seed": "default"}
        assert content["plugins"] == [{"kind": "hook", "name": "jsonl"}]
        assert content["versions"] == installed_versions()
        assert content["resumed"] == []

    def test_a_resumed_run_keeps_its_first_start_and_lists_each_return(self, tmp_path):
        run = started(tmp_path)
        run.describe(started="2020-01-01T00:00:00+00:00")
        started(tmp_path)
        assert len(started(tmp_path).read()["resumed"]) == 2
        assert run.read()["started"] == "2020-01-01T00:00:00+00:00"

    def test_the_end_is_recorded_with_its_cause(self, tmp_path):
        run = started(tmp_path)
        run.finish("failed", error="ValueError: no")
        content = run.read()
        assert (content["status"], content["error"], content["kind"]) == ("failed", "ValueError: no", "ppo")
        assert content["ended"] >= content["started"]

    def test_versions_name_python_and_torch(self):
        assert {"python", "rlkit-llm", "torch", "transformers"} <= set(installed_versions())


class TestAtomicity:
    def test_the_old_text_stays_when_writing_fails(self, tmp_path, monkeypatch):
        path = tmp_path / "run.json"
        write_atomically(path, "old")

        def fail(descriptor: int) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("rlkit.tracking.run_folder.os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, "new")
        assert path.read_text() == "old"

    def test_nothing_else_is_left_behind(self, tmp_path):
        write_atomically(tmp_path / "run.json", json.dumps({}))
        assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


class TestLog:
    def test_the_log_is_appended_to_and_let_go(self, tmp_path):
        run, before = started(tmp_path), list(LOGGER.handlers)
        for message in ("first", "second"):
            handler = run.open_log()
            LOGGER.info(message)
            close_log(handler)
        LOGGER.info("after the run")
        lines = run.log.read_text().splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == ["first", "second"]
        assert LOGGER.handlers == before


class TestForgetAfter:
    @pytest.fixture
    def used(self, tmp_path: Path) -> RunFolder:
        folder = RunFolder(tmp_path)
        for name in ("rollouts/step_{:06d}.parquet", "validation/step_{:06d}.jsonl"):
            for step in (0, 1, 2, 3):
                file = tmp_path / name.format(step)
                file.parent.mkdir(exist_ok=True)
                file.touch()
        (folder.rollouts / ".step_000004.parquet").touch()
        (folder.rollouts / "mine.txt").touch()
        return folder

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_later_steps_go(self, used):
        used.forget_after(2)
        kept = [f"step_00000{step}.parquet" for step in (0, 1, 2)]
        assert self.names(used.rollouts) == ["mine.txt", *kept]
        assert self.names(used.validation) == [f"step_00000{step}.jsonl" for step in (0, 1, 2)]

    def test_a_run_that_starts_anew_forgets_the_starting_model_too(self, used):
        used.forget_after(0)
        assert self.names(used.rollouts) == ["mine.txt"]
        assert self.names(used.validation) == []

    def test_a_new_run_has_nothing_to_forget(self, tmp_path):
        RunFolder(tmp_path / "new").forget_after(0)


class TestAFullDisk:
    """/dev/full takes no byte."""

    pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")

    def test_what_the_log_loses_does_not_disturb_the_run(self, tmp_path, capsys):
        folder = RunFolder(tmp_path)
        folder.log.symlink_to("/dev/full")
        log = folder.open_log()
        LOGGER.info("lost")
        close_log(log)
        assert capsys.readouterr().err == ""

    def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(self, tmp_path, monkeypatch):
        file = tmp_path / "run.json"
        file.write_text("before")

        def refuse(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(file, "after")
        assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
        assert file.read_text() == "before"
