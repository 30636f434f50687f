"""The table of validations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlkit.reports.run_data import read_run
from rlkit.reports.validations import validation_table

MakeRun = Callable[..., Path]


def scored(score: float) -> dict[str, float]:
    bounds = {"validation/score_low": score - 0.1, "validation/score_high": score + 0.1, "validation/prompts": 50.0}
    return {"validation/score": score, **bounds}


def test_each_validation_is_measured_against_the_first_and_the_best_is_marked(make_run: MakeRun) -> None:
    rows = {0: scored(0.2), 5: {**scored(0.9), "validation/pass_at_4": 0.95}, 9: scored(0.3)}
    table = validation_table(read_run(make_run(validations=rows)).validations)
    assert [row["step"] for row in table] == [0, 5, 9]
    assert [row["against_first"] for row in table] == [None, "better", "not distinguishable"]
    assert [row["best"] for row in table] == [False, True, False]
    assert table[1]["several"] == {"pass_at_4": 0.95}


def test_a_supervised_run_has_its_losses(make_run: MakeRun) -> None:
    (row,) = validation_table(read_run(make_run(validations={3: {"sft/validation_loss": 1.5}})).validations)
    assert (row["loss"], row["score"], row["against_first"]) == (1.5, None, None)
