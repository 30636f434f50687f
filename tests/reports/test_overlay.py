"""Several runs in one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report_page import read_page

from rlkit.errors import ConfigError
from rlkit.reports.html import MAX_RUNS, write_report
from rlkit.reports.overlay import overlaid_charts
from rlkit.reports.run_data import read_run, run_labels
from rlkit.reports.settings import MISSING

MakeRun = Callable[..., Path]


def charts_of(*folders: Path) -> dict[str, dict]:
    return {chart["title"]: chart for chart in overlaid_charts([read_run(folder) for folder in folders])}


def test_a_chart_holds_the_curves_of_every_run(make_run: MakeRun) -> None:
    first = make_run(name="a", steps={1: {"actor/entropy": 1.0}})
    second = make_run(name="b", steps={1: {"actor/entropy": 2.0}, 2: {"actor/entropy": 3.0}})
    series = charts_of(first, second)["Entropy"]["series"]
    assert [(one["run"], one["name"], list(one["y"])) for one in series] == [
        (0, "entropy", [1.0]),
        (1, "entropy", [2.0, 3.0]),
    ]


def test_a_chart_that_only_one_run_has_is_kept(make_run: MakeRun) -> None:
    charts = charts_of(
        make_run(name="a", steps={1: {"actor/entropy": 1.0}}), make_run(name="b", steps={1: {"my/own": 2.0}})
    )
    assert [one["run"] for one in charts["my/own"]["series"]] == [1]


def test_stacked_stages_become_the_time_of_the_whole_step(make_run: MakeRun) -> None:
    step = {"time/rollout_s": 1.0, "time/update_actor_s": 2.0, "time/step_s": 4.0}
    runs = [make_run(name=name, steps={1: step}) for name in "ab"]
    assert "Time by stage" in charts_of(runs[0])
    charts = charts_of(*runs)
    assert "Time by stage" not in charts
    assert [one["y"] for one in charts["Time of a step"]["series"]] == [[4.0], [4.0]]


def test_a_note_that_is_true_of_one_run_only_is_dropped(make_run: MakeRun) -> None:
    def validated(name: str, best: int) -> Path:
        scores = {
            step: {
                "validation/score": 0.9 if step == best else 0.1,
                "validation/score_low": 0.0,
                "validation/score_high": 1.0,
                "validation/prompts": 9.0,
            }
            for step in (2, 4)
        }
        return make_run(name=name, validations=scores)

    chart = charts_of(validated("a", 2), validated("b", 4))["Validation score"]
    assert chart["note"] == "mean over held-out prompts, with 95 % intervals"
    assert [one["ring"] for one in chart["series"]] == [2, 4]


def test_runs_of_one_name_are_told_apart(make_run: MakeRun) -> None:
    runs = [read_run(make_run(name=name)) for name in ("a", "b")]
    assert run_labels(runs) == ["runs/a", "runs/b"]
    assert run_labels([runs[0], runs[0]]) == ["runs/a (1)", "runs/a (2)"]
    assert run_labels(runs[:1]) == ["trial"]


def test_the_page_of_several_runs_lies_beside_the_first_and_says_which_settings_differ(make_run: MakeRun) -> None:
    config = {"run": {"seed": 4, "device": "cpu"}, "model": {"path": "models/start"}}
    runs = [make_run(name="a"), make_run(name="b", run={"name": "other", "config": config})]
    path = write_report(*runs)
    assert path == runs[0].parent / "comparison.html"
    content = read_page(path.read_text())
    assert [run["label"] for run in content["runs"]] == ["trial", "other"]
    assert {row["key"]: row["values"] for row in content["settings"] if row["differs"]} == {
        "run.seed": ["3", "4"],
        "actor.lr": ["0.001", MISSING],
    }


def test_more_runs_than_colours_are_refused(make_run: MakeRun) -> None:
    folder = make_run()
    with pytest.raises(ConfigError, match=f"give 1 to {MAX_RUNS}"):
        write_report(*[folder] * (MAX_RUNS + 1))
