"""What of the answers reaches the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.reports import answers
from rlkit.reports.answers import MAX_TEXT, AnswerIndex, write_answers
from rlkit.reports.packing import BlockWriter
from rlkit.reports.rollout_files import rollout_files

MakeRun = Callable[..., Path]
ContentOf = Callable[[Path], dict[str, Any]]


def index_of(folder: Path, **options: Any) -> AnswerIndex:
    return write_answers(rollout_files(folder / "rollouts"), BlockWriter(lambda _text: None), **options)


def test_an_answer_comes_with_question_reference_score_and_parts(make_run: MakeRun, content_of: ContentOf) -> None:
    row = {"question": "3+4=?", "reference": "7", "response": "8", "score": 0.25, "parts": '{"format": 0.5}'}
    content = content_of(make_run(answers={2: [{**row, "finish_reason": "length"}, {}]}))
    index, text = content["index"], content["texts"][0]
    assert (text["question"], text["reference"], text["answer"], text["error"]) == ("3+4=?", "7", "8", None)
    assert (index["step"], index["score"], index["tokens"]) == ([2, 2], [0.25, 1.0], [2, 2])
    assert index["parts"] == {"format": [0.5, None]}
    assert [index["finishes"][at] for at in index["finish"]] == ["length", "stop"]
    assert [index["sources"][at] for at in index["source"]] == ["sums", "sums"]


def test_an_answer_that_the_reward_failed_on_has_no_score(make_run: MakeRun, content_of: ContentOf) -> None:
    content = content_of(make_run(answers={1: [{"score": 0.0, "error": "judge not reached"}]}))
    assert (content["index"]["score"], content["texts"][0]["error"]) == ([None], "judge not reached")


def test_texts_stay_with_their_answers_across_blocks(make_run: MakeRun, content_of: ContentOf) -> None:
    rows = [{"response": f"answer {at}", "question": f"question {at // 4}", "score": float(at)} for at in range(600)]
    content = content_of(make_run(answers={1: rows}))
    assert len(content["answers"]["blocks"]) == 3
    for score, text in zip(content["index"]["score"], content["texts"], strict=True):
        assert (text["answer"], text["question"]) == (f"answer {score:.0f}", f"question {score // 4:.0f}")


def test_a_long_run_shows_its_first_and_last_step_within_the_limit(make_run: MakeRun) -> None:
    folder = make_run(answers={step: [{"row_id": row, "group_id": row} for row in range(60)] for step in range(1, 31)})
    index = index_of(folder, limit=300)
    assert 200 <= len(index) <= 300
    assert (index.step[0], index.step[-1], len(set(index.step)), index.total) == (1, 30, 30, 1800)


def test_long_texts_leave_room_for_fewer_answers(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(answers={1: [{"response": "x" * 100, "group_id": row} for row in range(60)]})
    monkeypatch.setattr(answers, "MAX_CHARACTERS", 1050)
    assert 5 <= len(index_of(folder)) <= 10


def test_answers_that_are_asked_for_are_there_with_their_tokens(make_run: MakeRun) -> None:
    folder = make_run(answers={step: [{"group_id": row, "score": 0.5} for row in range(40)] for step in (1, 2)})
    index = index_of(folder, limit=8, wanted=lambda step: [23] if step == 2 else [])
    place = index.places[2, 23]
    assert (index.step[place], index.detailed[place]) == (2, 1)


def test_the_middle_of_a_very_long_answer_is_left_out(make_run: MakeRun, content_of: ContentOf) -> None:
    text = "a" * MAX_TEXT + "b" * MAX_TEXT
    answer = content_of(make_run(answers={1: [{"response": text}]}))["texts"][0]["answer"]
    assert answer.startswith("aaa") and answer.endswith("bbb")
    assert f"[... {MAX_TEXT} characters left out ...]" in answer


def test_numbers_that_json_lacks_do_not_reach_the_page(make_run: MakeRun, content_of: ContentOf) -> None:
    odd = {"score": float("nan"), "parts": '{"a": NaN, "b": 1, "c": "text"}', "reference": "not json"}
    content = content_of(make_run(answers={1: [odd, {"parts": "[1]"}]}))
    assert content["index"]["score"] == [None, 1.0]
    assert content["index"]["parts"] == {"b": [1.0, None]}
    assert content["texts"][0]["reference"] == "not json"


def test_without_rollouts_there_is_nothing(make_run: MakeRun) -> None:
    assert len(index_of(make_run())) == 0


def test_of_a_conversation_every_turn_is_shown(make_run: MakeRun, content_of: ContentOf) -> None:
    call = {"id": "call00000", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    replies = [
        {"role": "assistant", "content": "I add.", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ]
    row = {"response": "It is 3.", "conversation": json.dumps(replies)}
    answer = content_of(make_run(answers={1: [row]}))["texts"][0]["answer"]
    assert answer == '[assistant]\nI add.\nadd({"a": 1})\n\n[tool]\n3\n\n[assistant]\nIt is 3.'


def test_a_conversation_that_cannot_be_read_leaves_the_response(make_run: MakeRun, content_of: ContentOf) -> None:
    row = {"response": "It is 3.", "conversation": '[{"content": 3}]'}
    assert content_of(make_run(answers={1: [row]}))["texts"][0]["answer"] == "It is 3."
