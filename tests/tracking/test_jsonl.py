from __future__ import annotations

import json
import math

import pytest

from rlkit.tracking.jsonl import FILE_NAME, JsonlHook, keep_until


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def read(folder) -> list[dict]:
    lines = (folder / FILE_NAME).read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def started(run) -> JsonlHook:
    hook = JsonlHook()
    hook.run_started(run)
    return hook


class TestWriting:
    def test_every_event_is_one_line_with_its_step(self, make_run):
        run = make_run()
        hook = started(run)
        hook.validation_finished(run, 0, {"validation/score": 0.25})
        hook.step_finished(run, 1, {"reward/mean": 0.5})
        hook.checkpoint_saved(run, 1, run.folder / "checkpoints" / "step_000001")
        hook.run_finished(run, "finished")
        lines = read(run.folder)
        assert [(line["event"], line["step"]) for line in lines] == [("validation", 0), ("step", 1), ("checkpoint", 1)]
        assert lines[0]["metrics"] == {"validation/score": 0.25}
        assert lines[1]["metrics"] == {"reward/mean": 0.5}
        assert lines[2]["folder"] == "step_000001"
        assert all(line["time"] > 1e9 for line in lines)

    def test_a_line_can_be_read_as_soon_as_the_step_is_done(self, make_run):
        run = make_run()
        hook = started(run)
        hook.step_finished(run, 1, {"reward/mean": 0.5})
        assert [line["step"] for line in read(run.folder)] == [1]
        hook.run_finished(run, "finished")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_that_json_lacks_become_null(self, make_run, value):
        run = make_run()
        hook = started(run)
        hook.step_finished(run, 1, {"actor/grad_norm": value, "reward/mean": 0.5})
        hook.run_finished(run, "finished")
        assert read(run.folder)[0]["metrics"] == {"actor/grad_norm": None, "reward/mean": 0.5}


class TestResuming:
    @pytest.fixture
    def written(self, make_run):
        run = make_run()
        hook = started(run)
        for step in (1, 2, 3, 4):
            hook.step_finished(run, step, {"reward/mean": step / 10})
        hook.run_finished(run, "interrupted")
        return run

    def test_lines_after_the_checkpoint_are_dropped_and_written_again(self, written, make_run):
        run = make_run(first_step=2)
        hook = started(run)
        hook.step_finished(run, 3, {"reward/mean": 0.9})
        hook.run_finished(run, "finished")
        assert [(line["step"], line["metrics"]["reward/mean"]) for line in read(run.folder)] == [
            (1, 0.1),
            (2, 0.2),
            (3, 0.9),
        ]

    def test_a_run_that_starts_anew_drops_everything(self, written, make_run):
        run = make_run(first_step=0)
        started(run).run_finished(run, "finished")
        assert read(run.folder) == []

    def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_stands_alone(self, written, make_run):
        path = written.folder / FILE_NAME
        path.write_text(path.read_text() + '{"event": "step", "st')
        run = make_run(first_step=4)
        hook = started(run)
        hook.step_finished(run, 5, {"reward/mean": 0.5})
        hook.run_finished(run, "finished")
        assert [line["step"] for line in read(run.folder)] == [1, 2, 3, 4, 5]

    def test_validations_up_to_the_checkpoint_are_kept(self, tmp_path):
        path = tmp_path / FILE_NAME
        lines = [json.dumps({"event": "validation", "step": step}) for step in (0, 2, 4)]
        path.write_text("".join(f"{line}\n" for line in lines))
        keep_until(path, 2)
        assert path.read_text().splitlines() == lines[:2]

    def test_a_checkpoint_that_is_told_of_again_has_one_line(self, tmp_path, make_run):
        for first_step in (0, 2):
            run = make_run(first_step=first_step)
            hook = started(run)
            hook.checkpoint_saved(run, 2, tmp_path / "step_000002")
            hook.checkpoint_saved(run, 3, tmp_path / "step_000003")
            hook.run_finished(run, "finished")
        assert [(line["event"], line["step"]) for line in read(run.folder)] == [("checkpoint", 2), ("checkpoint", 3)]

    def test_a_checkpoint_that_nobody_was_told_of_gets_its_line(self, written, make_run):
        run = make_run(first_step=2)
        hook = started(run)
        hook.checkpoint_saved(run, 2, written.folder / "step_000002")
        hook.run_finished(run, "finished")
        assert [(line["event"], line["step"]) for line in read(run.folder)][-1] == ("checkpoint", 2)

    def test_no_file_is_no_fault(self, tmp_path):
        keep_until(tmp_path / FILE_NAME, 3)
        assert list(tmp_path.iterdir()) == []
