"""Completions files survive kills, odd text and odd values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.errors import DataError
from rlkit.generation.completions_file import Completion, CompletionRow, append_rows, read_rows, repair_tail
from rlkit.types import Conversation, Prompt


def row(row_id: int, *texts: str) -> CompletionRow:
    prompt = Prompt(row_id, messages=({"role": "user", "content": "2+2?"},), reference="4", data_source="sums")
    return CompletionRow(prompt, tuple(Completion(text, "stop", len(text)) for text in texts), "model-a")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "completions.jsonl"
    rows = [row(0, "4", "5"), row(1, "x\ny\u2028z \N{SNOWMAN}")]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:])
    assert list(read_rows(path)) == rows


def test_a_plain_text_prompt_token_ids_and_infinite_log_probs_survive(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    completion = Completion("a", "length", 2, token_ids=(3, 4), log_probs=(-0.5, -math.inf))
    written = CompletionRow(Prompt(7, text="Once"), (completion,))
    append_rows(path, [written])
    assert list(read_rows(path)) == [written]
    assert json.loads(path.read_text())["completions"][0]["log_probs"] == [-0.5, None]


def test_values_that_json_lacks_are_written_as_plain_ones(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    extra = {"n": np.int64(3), "a": np.array([1.5, np.nan]), "path": Path("x"), "nan": math.nan}
    append_rows(path, [CompletionRow(Prompt(0, text="q", extra=extra), ())])
    assert next(read_rows(path)).prompt.extra == {"n": 3, "a": [1.5, None], "path": "x", "nan": None}


def test_a_lone_surrogate_does_not_stop_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    append_rows(path, [row(0, "bad \ud800 text")])
    assert next(read_rows(path)).completions[0].text == "bad ? text"


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_a_torn_last_line_is_refused_by_the_reader_and_cut_off_by_the_repair(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "c.jsonl"
    append_rows(path, [row(0, "4"), row(1, "5")])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    with pytest.raises(DataError, match=r"line 2.*cut off"):
        list(read_rows(path))
    with pytest.raises(DataError, match="middle of a line"):
        append_rows(path, [row(2, "6")])
    assert repair_tail(path) == kept
    append_rows(path, [row(1, "5")])
    assert list(read_rows(path)) == [row(0, "4"), row(1, "5")]


def test_a_whole_last_line_without_newline_is_kept_by_the_repair(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    append_rows(path, [row(0, "4")])
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read_rows(path)) == [row(0, "4")]
    assert repair_tail(path) == 0
    append_rows(path, [row(1, "5")])
    assert [r.prompt.row_id for r in read_rows(path)] == [0, 1]


def test_repairing_a_missing_or_empty_file_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    assert repair_tail(path) == 0
    path.touch()
    assert repair_tail(path) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "holds a list"),
        ('{"row_id": "a", "prompt": "q", "completions": []}', "row_id is 'a'"),
        ('{"row_id": 1, "completions": []}', "neither"),
        ('{"row_id": 1, "prompt": "q"}', "lacks 'completions'"),
        ('{"row_id": 1, "prompt": "q", "completions": [{"text": 3}]}', "text is 3"),
        (
            '{"row_id": 1, "prompt": "q", "completions": [{"text": "a", "finish_reason": "eos"}]}',
            "finish_reason is 'eos'",
        ),
        ("{", "Expecting"),
    ],
)
def test_a_line_that_is_no_row_is_named_with_the_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "c.jsonl"
    append_rows(path, [row(0, "4")])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match="line 2") as caught:
        list(read_rows(path))
    assert reason in str(caught.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read completions file"):
        list(read_rows(tmp_path / "none.jsonl"))


@given(text=st.text(), cut=st.integers(min_value=1))
def test_no_text_and_no_cut_makes_the_repaired_file_unreadable(
    tmp_path_factory: pytest.TempPathFactory, text: str, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "c.jsonl"
    append_rows(path, [row(0, text), row(1, text)])
    data = path.read_bytes()
    path.write_bytes(data[: -(cut % len(data)) or None])
    repair_tail(path)
    assert [r.prompt.row_id for r in read_rows(path)] in ([], [0], [0, 1])


def test_a_conversation_survives_and_reaches_the_reward(tmp_path: Path) -> None:
    said = Conversation(
        opening=({"role": "user", "content": "2+2?"},),
        replies=({"role": "assistant", "content": "hm"}, {"role": "user", "content": "go on"}),
        end="turns",
        turn_rewards=(0.5,),
        tool_calls=2,
        tool_errors=1,
    )
    path = tmp_path / "c.jsonl"
    written = CompletionRow(Prompt(0, text="2+2?"), (Completion("hm", "length", 9, conversation=said),))
    append_rows(path, [written])
    assert list(read_rows(path)) == [written]
    assert next(read_rows(path)).samples[0].conversation == said


def test_a_conversation_with_an_unknown_end_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    completion = {"text": "hm", "conversation": {"opening": [], "replies": [], "end": "tired"}}
    path.write_text(json.dumps({"row_id": 0, "prompt": "q", "completions": [completion]}) + "\n")
    with pytest.raises(DataError, match="end is 'tired', not one of answer, done"):
        list(read_rows(path))


def test_an_error_stands_where_the_answers_would(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    written = CompletionRow(Prompt(3, text="q"), (), "m", error="too long")
    append_rows(path, [written, row(4, "x")])
    assert list(read_rows(path)) == [written, row(4, "x")]
    assert "error" not in json.loads(path.read_text().splitlines()[1])
