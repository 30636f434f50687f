"""`rlkit runs compare`: what differs, and whether it matters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ConfigError
from rlkit.reports.run_comparison import compare_runs
from rlkit.reports.run_comparison_text import render_comparison
from rlkit.tracking.validation_scores import write_scores
from rlkit.types.prompts import Prompt

MakeRun = Callable[..., Path]
PROMPTS = 60


def validated(make_run: MakeRun, name: str, scores: Sequence[float], *, question: str = "q", **run: Any) -> Path:
    """A run with one validation, after step 4, whose prompts have the given scores."""
    mean = sum(scores) / len(scores)
    metrics = {"score": mean, "score_low": mean - 0.1, "score_high": mean + 0.1, "prompts": float(len(scores))}
    steps = {step: {"reward/mean": step / 10, "actor/entropy": 1.0} for step in range(1, 5)}
    folder = make_run(
        name=name,
        run={"name": name, **run},
        steps=steps,
        validations={4: {f"validation/{key}": value for key, value in metrics.items()}},
    )
    prompts = [Prompt(row_id=at, messages=(), text=f"{question}{at}", reference="1") for at in range(len(scores))]
    write_scores(folder / "validation", 4, prompts, [[score] for score in scores])
    return folder


def test_the_same_prompts_are_compared_in_pairs(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [0.0] * 30 + [1.0] * 30)
    second = validated(make_run, "b", [1.0] * 20 + [0.0] * 10 + [1.0] * 30)
    (result,) = compare_runs([first, second]).paired
    assert (result.which, result.steps, result.test.method, result.left_out) == ("last", (4, 4), "mcnemar", 0)
    assert result.test.difference == pytest.approx(20 / 60)
    assert (result.test.better, result.test.worse, result.verdict) == (20, 0, "better")


def test_noise_is_called_not_significant(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [0.0, 1.0] * 30)
    second = validated(make_run, "b", [1.0, 0.0] + [0.0, 1.0] * 29)
    comparison = compare_runs([first, second])
    assert comparison.paired[0].verdict == "not significant"
    text = render_comparison(comparison)
    assert "not significant" in text
    assert "p: mid-p McNemar test; significant below 0.05" in text, "a single comparison is not corrected"


def test_prompts_that_only_one_run_was_asked_are_left_out(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [1.0] * PROMPTS)
    second = validated(make_run, "b", [0.0] * (PROMPTS - 8))
    (result,) = compare_runs([first, second]).paired
    assert (result.test.prompts, result.left_out, result.verdict) == (PROMPTS - 8, 8, "worse")


def test_different_prompts_are_never_paired(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [1.0] * 9)
    comparison = compare_runs([first, validated(make_run, "b", [0.0] * 9, question="other")])
    assert comparison.paired == ()
    assert "No paired test: a and b were validated on different prompts." in render_comparison(comparison)


def test_runs_that_kept_no_scores_say_so(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [1.0] * 9)
    second = validated(make_run, "b", [0.0] * 9)
    (second / "validation" / "step_000004.json").unlink()
    assert "have not kept the scores" in compare_runs([first, second]).unpaired


def test_settings_that_differ_and_metrics_at_the_same_step(make_run: MakeRun) -> None:
    first = validated(make_run, "a", [1.0] * 9)
    second = make_run(
        name="b",
        run={"name": "b", "config": {"actor": {"lr": 0.01}}},
        steps={step: {"reward/mean": 1.0} for step in range(1, 3)},
    )
    comparison = compare_runs([first, second])
    assert {one.key: one.values for one in comparison.settings}["actor.lr"] == ("0.001", "0.01")
    assert comparison.step == 2
    assert comparison.metrics["reward/mean"] == (pytest.approx(0.15), 1.0)
    assert comparison.metrics["actor/entropy"] == (1.0, None)
    text = render_comparison(comparison)
    assert "Metrics at step 2" in text
    content = json.loads(json.dumps(comparison.as_json()))
    assert content["runs"] == ["a", "b"]
    assert content["validations"][1] == {"start": None, "best": None, "last": None}


def test_equal_settings_are_said_to_be_equal(make_run: MakeRun) -> None:
    folders = [make_run(name=name) for name in ("a", "b")]
    assert render_comparison(compare_runs(folders)) == "Settings: the same in all runs."


def test_a_single_run_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        compare_runs([make_run()])
