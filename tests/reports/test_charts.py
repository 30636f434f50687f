"""Curves: which there are, and that they hold the run's own numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.reports.charts import MAX_POINTS, build_charts, stage_totals
from rlkit.reports.run_data import read_run

MakeRun = Callable[..., Path]


def charts_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {chart.title: chart.as_json() for chart in build_charts(read_run(folder))}


def test_curves_hold_the_numbers_of_metrics_jsonl(make_run: MakeRun) -> None:
    steps = {step: {"actor/entropy": 1 / step, "actor/grad_norm": 0.1 * step} for step in (1, 2, 3)}
    folder = make_run(steps=steps)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    charts = charts_of(folder)
    for title, metric in (("Entropy", "actor/entropy"), ("Gradient norm", "actor/grad_norm")):
        series = charts[title]["series"][0]
        assert list(series["x"]) == [line["step"] for line in lines]
        assert series["y"] == pytest.approx([line["metrics"][metric] for line in lines], rel=1e-5)


def test_validation_scores_come_with_their_interval_and_every_data_source(make_run: MakeRun) -> None:
    score = {"validation/score": 0.5, "validation/score_low": 0.4, "validation/score_high": 0.6}
    chart = charts_of(make_run(validations={0: {**score, "validation/gsm8k/score": 0.7}}))["Validation score"]
    overall, source = chart["series"]
    assert (overall["x"], overall["y"], overall["low"], overall["high"]) == ((0,), [0.5], [0.4], [0.6])
    assert (source["name"], source["y"]) == ("gsm8k", [0.7])


def scored(score: float, **others: float) -> dict[str, float]:
    bounds = {"validation/score_low": score - 0.1, "validation/score_high": score + 0.1, "validation/prompts": 9.0}
    return {"validation/score": score, **bounds, **{name.replace("__", "/"): v for name, v in others.items()}}


def test_the_best_validation_of_a_trained_model_has_a_ring(make_run: MakeRun) -> None:
    chart = charts_of(make_run(validations={0: scored(0.9), 2: scored(0.4), 4: scored(0.7), 6: scored(0.5)}))[
        "Validation score"
    ]
    assert chart["series"][0]["ring"] == 4
    assert chart["note"].endswith("; best at step 4")


def test_a_single_validation_is_not_called_the_best(make_run: MakeRun) -> None:
    assert charts_of(make_run(validations={4: scored(0.7)}))["Validation score"]["series"][0]["ring"] is None


def test_a_part_called_score_is_no_data_source_and_a_source_may_have_a_slash(make_run: MakeRun) -> None:
    values = scored(
        0.5, **{"validation/part/score": 0.1, "validation/a/b/score": 0.3, "validation/a/b/part/score": 0.2}
    )
    chart = charts_of(make_run(validations={0: values}))["Validation score"]
    assert [series["name"] for series in chart["series"]] == ["all", "a/b"]


def test_several_answers_to_a_prompt_have_a_chart_of_their_own(make_run: MakeRun) -> None:
    several = {
        f"validation/{name}": 0.5 for name in ("pass_at_1", "pass_at_16", "pass_at_2", "maj_at_16", "a/pass_at_2")
    }
    bounds = {"validation/pass_at_2_low": 0.4, "validation/pass_at_2_high": 0.6}
    chart = charts_of(make_run(validations={0: {**scored(0.5), **several, **bounds}}))["Several answers to a prompt"]
    assert [series["name"] for series in chart["series"]] == ["pass@2", "pass@16", "maj@16"]
    assert chart["series"][0]["low"] == [0.4]
    assert "Several answers to a prompt" not in charts_of(make_run(name="b", validations={0: scored(0.5)}))


def test_the_last_line_of_a_repeated_step_counts(make_run: MakeRun) -> None:
    folder = make_run(steps={1: {"actor/entropy": 1.0}, 2: {"actor/entropy": 2.0}})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "step", "step": 2, "metrics": {"actor/entropy": 5.0}}) + "\n")
    assert charts_of(folder)["Entropy"]["series"][0]["y"] == [1.0, 5.0]


@pytest.mark.parametrize(
    "line", ['{"event": "step", "st', "[]", '{"event": "step", "step": 3, "metrics": [1]}', "\x00"]
)
def test_damaged_lines_are_passed_over(line: str, make_run: MakeRun) -> None:
    folder = make_run(steps={1: {"actor/entropy": 1.0}})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line)
    assert charts_of(folder)["Entropy"]["series"][0]["y"] == [1.0]


def test_missing_and_infinite_values_leave_the_curve_s_other_points(make_run: MakeRun) -> None:
    folder = make_run(steps={1: {"actor/entropy": None}, 2: {"actor/entropy": float("inf")}, 3: {"actor/entropy": 2.0}})
    series = charts_of(folder)["Entropy"]["series"][0]
    assert (series["x"], series["y"]) == ((3,), [2.0])


def test_a_spread_reward_has_a_band_within_its_range_and_right_or_wrong_has_none(make_run: MakeRun) -> None:
    spread = {"reward/mean": 0.5, "reward/std": 0.3, "reward/min": 0.3, "reward/max": 0.9}
    binary = {"reward/mean": 0.5, "reward/std": 0.5, "reward/min": 0.0, "reward/max": 1.0}
    reward = charts_of(make_run(steps={1: spread}))["Reward"]["series"][0]
    assert (reward["low"], reward["high"]) == ([0.3], [0.8])
    reward = charts_of(make_run(name="b", steps={1: binary}))["Reward"]["series"][0]
    assert (reward["y"], reward["low"]) == ([0.5], [])


def test_a_long_curve_is_averaged_and_keeps_its_mean_and_its_end(make_run: MakeRun) -> None:
    count = 3 * MAX_POINTS
    series = charts_of(make_run(steps={s: {"actor/entropy": s / count} for s in range(1, count + 1)}))["Entropy"][
        "series"
    ][0]
    assert len(series["x"]) == MAX_POINTS
    assert series["x"][-1] == count
    assert sum(series["y"]) / MAX_POINTS == pytest.approx((count + 1) / 2 / count, rel=1e-4)


def test_a_plugin_s_own_metric_gets_a_chart_and_one_that_is_always_zero_does_not(make_run: MakeRun) -> None:
    charts = charts_of(make_run(steps={1: {"my/thing": 3.0, "my/nothing": 0.0, "actor/skipped_steps": 0.0}}))
    assert charts["my/thing"]["group"] == "other"
    assert "my/nothing" not in charts
    assert "Skipped updates" not in charts


def test_failed_rewards_are_shown_once_there_are_any(make_run: MakeRun) -> None:
    assert "Unjudged answers" not in charts_of(make_run(steps={1: {"reward/errors": 0.0}}))
    assert "Unjudged answers" in charts_of(make_run(name="b", steps={1: {"reward/errors": 2.0}}))


def test_stages_add_up_to_the_step(make_run: MakeRun) -> None:
    step = {"time/rollout_s": 1.0, "time/update_actor_s": 2.0, "time/step_s": 4.0}
    data = read_run(make_run(steps={1: step, 2: step}))
    assert stage_totals(data.steps) == [("update actor", 4.0), ("rollout", 2.0), ("other", 2.0)]
    stack = next(chart for chart in build_charts(data) if chart.kind == "stack")
    assert [series.values for series in stack.series] == [(2.0, 2.0), (1.0, 1.0), (1.0, 1.0)]


def test_what_is_learned_from_is_drawn_beside_the_score_where_it_differs(make_run: MakeRun) -> None:
    def names(total: float, name: str) -> list[str]:
        folder = make_run(name=name, steps={1: {"reward/mean": 0.5, "reward/total_mean": total}})
        return [series["name"] for series in charts_of(folder)["Reward"]["series"]]

    assert names(0.5000001, "same") == ["mean"]
    assert names(0.3, "other") == ["mean", "after shaping and KL"]


def test_a_known_metric_without_a_place_says_what_it_is(make_run: MakeRun) -> None:
    chart = charts_of(make_run(steps={1: {"rollout/rejected_fraction": 0.1}}))["rollout/rejected_fraction"]
    assert (chart["group"], chart["unit"]) == ("other", "share")
    assert "rollout correction" in chart["note"]


def test_times_per_token_and_other_derived_numbers_get_no_chart_of_their_own(make_run: MakeRun) -> None:
    derived = ("time_per_token/step_ms", "perf/peak_flops", "return/min", "value/max", "prompt/length_mean")
    assert not charts_of(make_run(steps={1: dict.fromkeys(derived, 2.0)}))
