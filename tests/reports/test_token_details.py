"""The numbers of single tokens, as the page carries them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from rlkit.reports.token_details import DIFFERENCE_STEP, LOG_PROB_STEP, MAX_ROW_TOKENS, TokenDetails, mean_differences


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def read(details: dict[str, Any], name: str, unit: float = 1.0) -> Any:
    found = details[name]
    if isinstance(found, dict):
        return read({name: found["values"]}, name, found["unit"])
    return [value * unit for value in found] if isinstance(found, list) else found * unit


ROW = {
    "response_ids": [7, 8, 9],
    "response_mask": [True, True, False],
    "loss_mask": [True, False, False],
    "old_log_probs": [-0.5, -1.25, 0.0],
    "rollout_log_probs": [-0.5, -1.0, 0.0],
    "ref_log_probs": [-0.75, -1.25, 0.0],
    "advantages": [0.3, 0.3, 0.3],
    "entropies": [0.1, 0.9, 0.5],
}


def test_every_column_is_read_back_to_within_its_step() -> None:
    (details,) = TokenDetails(100).of(table([ROW]))
    assert details is not None
    assert details["ids"] == [7, 8, 9]
    assert read(details, "logp", LOG_PROB_STEP) == pytest.approx([-0.5, -1.25, 0.0], abs=LOG_PROB_STEP)
    assert read(details, "engine", DIFFERENCE_STEP) == pytest.approx([0.0, -0.25, 0.0], abs=DIFFERENCE_STEP)
    assert read(details, "reference", DIFFERENCE_STEP) == pytest.approx([0.25, 0.0, 0.0], abs=DIFFERENCE_STEP)
    assert (details["sampled"], details["learned"]) == ([1, 1, 0], [1, 0, 0])
    assert read(details, "entropy") == pytest.approx([0.1, 0.9, 0.5], rel=1e-3)


def test_a_column_of_equal_numbers_is_one_number() -> None:
    (details,) = TokenDetails(100).of(table([ROW]))
    assert details is not None
    assert isinstance(details["advantage"]["values"], int)
    assert read(details, "advantage") == pytest.approx(0.3)


def test_the_tokens_of_a_step_are_spent_on_the_answers_that_come_first() -> None:
    rows = [{**ROW, "response_ids": [at] * 3} for at in range(5)]
    kept = TokenDetails(6).of(table(rows), first=[3])
    assert [at for at, details in enumerate(kept) if details is not None] == [0, 3]


def test_a_very_long_answer_is_cut() -> None:
    long = {name: [values[0]] * (MAX_ROW_TOKENS + 5) for name, values in ROW.items()}
    (details,) = TokenDetails(10 * MAX_ROW_TOKENS).of(table([long]))
    assert details is not None
    assert len(details["ids"]) == MAX_ROW_TOKENS


def test_what_the_run_has_not_kept_is_absent() -> None:
    (details,) = TokenDetails(9).of(table([{"response_ids": [1], "rollout_log_probs": None, "old_log_probs": [-1.0]}]))
    assert details is not None
    assert set(details) == {"ids", "logp"}
    assert TokenDetails(9).of(table([{"response": "text"}])) == [None]


def test_numbers_that_are_not_finite_become_null() -> None:
    (details,) = TokenDetails(9).of(table([{**ROW, "old_log_probs": [-0.5, float("-inf"), float("nan")]}]))
    assert details is not None
    assert details["logp"] == [-5000, None, None]


def test_the_mean_difference_is_over_sampled_tokens() -> None:
    empty = {name: [] for name in ROW}
    means = mean_differences(table([ROW, empty]))
    assert means[0] == pytest.approx(0.125)
    assert means[1] != means[1]
    assert mean_differences(table([{"response_ids": [1]}])) == []
