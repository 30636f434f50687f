from __future__ import annotations

import pytest

from rlkit.data.columns import PROMPT_COLUMNS, find_prompt_column, find_reference_column, require_column
from rlkit.data.rows import Row
from rlkit.errors import DataError


def row(**columns: object) -> Row:
    return Row(columns, "rows.jsonl", 7, "line")


def test_the_first_known_column_is_taken() -> None:
    assert find_prompt_column(row(**dict.fromkeys(PROMPT_COLUMNS, "x"))) == "prompt"
    assert find_prompt_column(row(answer="x", problem="y")) == "problem"
    assert find_reference_column(row(answer="x", solution="y")) == "answer"
    assert find_reference_column(row(answer="x", reward_model={"ground_truth": "y"})) == "reward_model.ground_truth"
    assert find_reference_column(row(reward_model={"style": "rule"})) is None


def test_an_explicit_key_wins_and_may_be_a_path() -> None:
    assert find_prompt_column(row(prompt="x", query="y"), "query") == "query"
    nested = row(prompt="x", extra_info={"answer": {"final": 3}})
    assert find_reference_column(nested, "extra_info.answer.final") == "extra_info.answer.final"
    assert require_column(nested, "extra_info.answer.final", setting="reference_key") == 3
    assert require_column(row(**{"a.b": 1}), "a.b", setting="x") == 1


def test_a_wrong_key_lists_the_columns_and_a_near_one() -> None:
    with pytest.raises(DataError) as caught:
        find_prompt_column(row(question="x", answer="y"), "qestion")
    assert str(caught.value) == (
        "rows.jsonl, line 7: no column 'qestion' (prompt_key); columns: question, answer. Did you mean 'question'?"
    )
    with pytest.raises(DataError, match=r"reference_key.*columns: question"):
        find_reference_column(row(question="x"), "reward_model.ground_truth")
    with pytest.raises(DataError, match="set prompt_key to one of: text, label"):
        find_prompt_column(row(text="x", label="y"))
