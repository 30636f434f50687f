"""`rlkit runs list`: every run, with the number that matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.reports.run_list import render_runs, summarise_runs, when

MakeRun = Callable[..., Path]


def test_the_newest_run_comes_first_with_its_metric_and_duration(make_run: MakeRun) -> None:
    score = {"validation/score": 0.5, "validation/score_low": 0.4, "validation/score_high": 0.6}
    make_run(name="old", steps={1: {"reward/mean": 0.25}, 2: {"reward/mean": 0.75}})
    folder = make_run(name="new", run={"name": "new", "started": "2026-02-01T10:00:00+00:00", "ended": "2026-02-01T11:00:05+00:00", "config": {"trainer": {"steps": 8}}}, validations={4: score}, steps={4: {"reward/mean": 0.1}}).parent  # fmt: skip
    new, old = summarise_runs(folder)
    assert (new.name, new.steps, new.total_steps, new.duration_s) == ("new", 4, 8, 3605.0)
    assert str(new.metric) == "validation 0.500 (0.400 to 0.600)"
    assert str(old.metric) == "reward 0.500"
    head, first, second = render_runs([new, old]).splitlines()
    assert head.split() == ["run", "kind", "status", "steps", "key", "metric", "took", "started"]
    assert first.split()[:4] == [str(folder / "new"), "ppo", "finished", "4/8"]
    assert "1:00:05" in first
    assert len(head) <= len(first)
    assert second.startswith(str(folder / "old"))


def test_a_run_that_is_still_going_and_one_that_is_damaged_do_not_stop_the_list(make_run: MakeRun) -> None:
    folder = make_run(run={"status": "running", "ended": ""}).parent
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    (one,) = summarise_runs(folder)
    assert (one.status, one.duration_s, one.metric, one.steps) == ("running", None, None, 0)
    assert "running?" in render_runs([one])


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no runs"):
        summarise_runs(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        summarise_runs(tmp_path / "gone")


def test_a_start_that_is_no_time_is_left_out() -> None:
    assert when("") == "-"
