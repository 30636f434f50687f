"""The trainer's log-probs against the engine's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.reports.mismatch import WORST, WORST_OF_AN_ANSWER, Mismatch, WorstToken, bin_labels, read_mismatch, worst_of
from rlkit.reports.rollout_files import rollout_files

MakeRun = Callable[..., Path]


def answer(engine: list[float], trainer: list[float], **others: Any) -> dict[str, Any]:
    count = len(engine)
    usual = {"response_ids": list(range(10, 10 + count)), "response_mask": [True] * count, "loss_mask": [True] * count}
    return {**usual, "rollout_log_probs": engine, "old_log_probs": trainer, **others}


def mismatch_of(folder: Path) -> Mismatch | None:
    return read_mismatch(rollout_files(folder / "rollouts"))


def test_the_worst_token_is_named_with_its_place(make_run: MakeRun) -> None:
    rows = [answer([-0.1, -0.2], [-0.1, -0.2]), answer([-0.5, -1.0, -2.0], [-0.5, -1.75, -2.01])]
    found = mismatch_of(make_run(answers={4: rows}))
    assert found is not None
    worst = found.worst[0]
    assert (worst.step, worst.row, worst.position, worst.token, worst.engine, worst.trainer) == (
        4,
        1,
        1,
        11,
        -1.0,
        -1.75,
    )
    assert (found.tokens, found.rows_of(4), len(found.worst)) == (5, [1], 2)
    assert found.as_json({(4, 1): 77})["worst"][0]["answer"] == 77
    assert found.as_json({})["worst"][0]["answer"] is None


def test_a_small_difference_of_large_log_probs_keeps_its_digits(make_run: MakeRun) -> None:
    found = mismatch_of(make_run(answers={1: [answer([-8.4315, -1.0], [-8.4315047, -1.0])]}))
    assert found is not None
    worst = found.as_json({})["worst"][0]
    assert (worst["engine"], worst["trainer"], worst["difference"]) == (-8.4315, -8.4315, pytest.approx(-4.7e-6))


def test_each_difference_is_counted_in_its_bin(make_run: MakeRun) -> None:
    found = mismatch_of(make_run(answers={1: [answer([-1.0, -1.0, -1.0, -1.0], [-1.0, -1.02, -1.05, -1.5])]}))
    assert found is not None
    counted = {label: row[0] for label, row in zip(bin_labels(), found.counts, strict=True) if row[0]}
    assert counted == {"below 1e-7": 1, "0.01 to 0.03": 1, "0.03 to 0.1": 1, "0.3 to 1": 1}
    assert found.quantiles["largest"] == (pytest.approx(0.5),)
    assert found.totals == tuple(row[0] for row in found.counts)


def test_tokens_that_were_not_sampled_do_not_count(make_run: MakeRun) -> None:
    row = answer([0.0, -1.0], [-9.0, -1.0], response_mask=[False, True])
    found = mismatch_of(make_run(answers={1: [row]}))
    assert found is not None
    assert (found.tokens, found.worst) == (1, ())


def test_a_run_without_the_engine_s_log_probs_has_none(make_run: MakeRun) -> None:
    assert mismatch_of(make_run(answers={1: [{"rollout_log_probs": None, "old_log_probs": [-1.0, -1.0]}]})) is None
    assert mismatch_of(make_run(name="b", answers={1: [{}]})) is None
    assert mismatch_of(make_run(name="c")) is None


def test_one_broken_answer_does_not_fill_the_list() -> None:
    broken = [WorstToken(1, 0, at, 5, -1.0, -9.0, True) for at in range(50)]
    others = [WorstToken(1, 1 + at, 0, 5, -1.0, -1.1, True) for at in range(2 * WORST)]
    kept = worst_of([*others, *broken])
    assert sum(token.row == 0 for token in kept) == WORST_OF_AN_ANSWER
    assert len(kept) == WORST
    assert kept[0].row == 0
