"""Which answers are shown, and how rewards are distributed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.reports.answers import (
    EXTREMES,
    MAX_ANSWERS,
    MAX_BINS,
    MAX_TEXT,
    choose_rows,
    read_answers,
    read_distribution,
    rollout_files,
    round_bounds,
)

MakeRun = Callable[..., Path]


def files_of(folder: Path) -> list[tuple[int, Path]]:
    return rollout_files(folder / "rollouts")


def test_an_answer_comes_with_question_reference_score_and_parts(make_run: MakeRun) -> None:
    row = {"question": "3+4=?", "reference": "7", "response": "8", "score": 0.25, "parts": '{"format": 0.5}'}
    answer = read_answers(files_of(make_run(answers={2: [{**row, "finish_reason": "length"}]})))[0]
    assert (answer["step"], answer["question"], answer["reference"], answer["answer"]) == (2, "3+4=?", "7", "8")
    assert (answer["score"], answer["parts"]) == (0.25, {"format": 0.5})
    assert (answer["tokens"], answer["finish"], answer["source"]) == (2, "length", "sums")


def test_best_and_worst_answers_are_always_among_them() -> None:
    scores = [0.5] * 400
    scores[123], scores[321] = 1.0, 0.0
    rows = choose_rows([row // 4 for row in range(400)], scores, 40)
    assert {123, 321} <= set(rows)
    assert len(rows) <= 40
    assert rows == sorted(set(rows))


def test_prompts_are_shown_with_all_of_their_answers() -> None:
    groups = [row // 8 for row in range(800)]
    rows = choose_rows(groups, [0.5] * 800, 40)
    whole = [group for group in set(groups) if {8 * group + at for at in range(8)} <= set(rows)]
    assert len(whole) >= (40 - 2 * EXTREMES) // 8 - 1


@pytest.mark.parametrize("count", [1, 3, 5])
def test_few_answers_are_all_shown_and_a_small_limit_holds(count: int) -> None:
    assert choose_rows([row // 4 for row in range(40)], [0.5] * 40, 40) == list(range(40))
    assert 1 <= len(choose_rows(list(range(50)), [0.0] * 50, count)) <= count


def test_rows_without_groups_and_scores_can_be_chosen() -> None:
    assert choose_rows([None, None], [], 5) == [0, 1]
    assert choose_rows([], [], 5) == []


def test_a_long_run_shows_its_first_and_last_step_within_the_limit(make_run: MakeRun) -> None:
    folder = make_run(answers={step: [{"row_id": row, "group_id": row} for row in range(60)] for step in range(1, 31)})
    answers = read_answers(files_of(folder))
    assert len(answers) <= MAX_ANSWERS
    assert (answers[0]["step"], answers[-1]["step"]) == (1, 30)


def test_the_middle_of_a_very_long_answer_is_left_out(make_run: MakeRun) -> None:
    text = "a" * MAX_TEXT + "b" * MAX_TEXT
    answer = read_answers(files_of(make_run(answers={1: [{"response": text}]})))[0]["answer"]
    assert answer.startswith("aaa") and answer.endswith("bbb")
    assert f"[... {MAX_TEXT} characters left out ...]" in answer


def test_numbers_that_json_lacks_do_not_reach_the_page(make_run: MakeRun) -> None:
    odd = {"score": float("nan"), "parts": '{"a": NaN, "b": 1, "c": "text"}', "reference": "not json"}
    answer = read_answers(files_of(make_run(answers={1: [odd, {"parts": "[1]"}]})))[0]
    assert (answer["score"], answer["parts"], answer["reference"]) == (None, {"b": 1}, "not json")


def test_a_few_different_rewards_have_a_row_each(make_run: MakeRun) -> None:
    rewards = {1: [0.0, 0.0, 0.0, 1.0], 2: [0.0, 1.0, 1.0, 0.5]}
    folder = make_run(answers={step: [{"score": score} for score in scores] for step, scores in rewards.items()})
    distribution = read_distribution(files_of(folder))
    assert distribution is not None
    assert (distribution.steps, distribution.labels) == ((1, 2), ("0", "0.5", "1"))
    assert distribution.shares == ((0.75, 0.25), (0.0, 0.25), (0.25, 0.5))


def test_many_different_rewards_are_put_into_bins(make_run: MakeRun) -> None:
    folder = make_run(answers={1: [{"score": value / 100} for value in range(100)]})
    distribution = read_distribution(files_of(folder))
    assert distribution is not None
    assert distribution.labels[:2] == ("0 to 0.1", "0.1 to 0.2")
    assert [row[0] for row in distribution.shares] == pytest.approx([0.1] * 10)


@pytest.mark.parametrize(("low", "high"), [(-0.332, 1.38), (0.0, 1e-6), (-5e7, 3.0), (0.99, 1.01), (-1.0, 0.0)])
def test_bins_are_round_few_and_hold_everything(low: float, high: float) -> None:
    bounds = round_bounds(low, high)
    assert bounds[0] <= low and high <= bounds[-1]
    assert MAX_BINS // 4 <= len(bounds) - 1 <= MAX_BINS


def test_without_rollouts_there_is_nothing(make_run: MakeRun) -> None:
    files = files_of(make_run())
    assert (read_answers(files), read_distribution(files)) == ([], None)


def test_of_a_conversation_every_turn_is_shown(make_run: MakeRun) -> None:
    call = {"id": "call00000", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    replies = [
        {"role": "assistant", "content": "I add.", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ]
    row = {"response": "It is 3.", "conversation": json.dumps(replies)}
    answer = read_answers(files_of(make_run(answers={1: [row]})))[0]["answer"]
    assert answer == '[assistant]\nI add.\nadd({"a": 1})\n\n[tool]\n3\n\n[assistant]\nIt is 3.'


def test_a_conversation_that_cannot_be_read_leaves_the_response(make_run: MakeRun) -> None:
    row = {"response": "It is 3.", "conversation": '[{"content": 3}]'}
    assert read_answers(files_of(make_run(answers={1: [row]})))[0]["answer"] == "It is 3."
