from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from pyarrow import parquet

from rlkit.tracking.rollouts_file import GreedyAnswers, write_rollouts
from rlkit.types import Conversation, Experience, Prompt, Ragged, Reward, Rollouts


@pytest.fixture
def experience() -> Experience:
    prompts = (
        Prompt(7, messages=({"role": "user", "content": "1+1?"},), reference=2, data_source="sums"),
        Prompt(9, text="two plus two", reference={"number": 4}),
    )
    response_ids = Ragged.from_rows([[5, 6, 7], [8]], dtype=torch.int64)
    rollouts = Rollouts(
        prompt_ids=Ragged.from_rows([[1, 2], [3, 4, 5]], dtype=torch.int64),
        response_ids=response_ids,
        response_mask=response_ids.with_values(torch.tensor([True, False, True, True])),
        rollout_log_probs=None,
        group_ids=torch.tensor([0, 1]),
        finish_reasons=("stop", "length"),
        policy_version=3,
        prompts=prompts,
    )
    return Experience(
        rollouts=rollouts,
        old_log_probs=response_ids.with_values(torch.tensor([-0.5, -1.0, -1.5, -2.0])),
        advantages=response_ids.with_values(torch.tensor([1.0, 0.0, 1.0, -1.0])),
        loss_mask=rollouts.response_mask,
    )


REWARDS = [Reward(1.0, {"correct": 1.0}), Reward(0.0, error="ValueError: no number")]


def test_one_row_for_each_answer_with_everything_that_the_update_needs(tmp_path, experience):
    path = write_rollouts(tmp_path / "rollouts", 12, experience, ["2", "four"], REWARDS)
    assert path == tmp_path / "rollouts" / "step_000012.parquet"
    first, second = parquet.read_table(path).to_pylist()
    assert (first["step"], first["row_id"], first["group_id"], first["policy_version"]) == (12, 7, 0, 3)
    assert (first["question"], first["response"], first["data_source"]) == ("1+1?", "2", "sums")
    assert json.loads(first["messages"]) == [{"role": "user", "content": "1+1?"}]
    assert json.loads(first["reference"]) == 2
    assert (first["prompt_ids"], first["response_ids"]) == ([1, 2], [5, 6, 7])
    assert first["response_mask"] == first["loss_mask"] == [True, False, True]
    assert first["old_log_probs"] == [-0.5, -1.0, -1.5]
    assert (first["score"], json.loads(first["parts"]), first["error"]) == (1.0, {"correct": 1.0}, None)
    assert (second["question"], json.loads(second["reference"])) == ("two plus two", {"number": 4})
    assert (second["response_ids"], second["advantages"]) == ([8], [-1.0])
    assert (second["finish_reason"], second["error"]) == ("length", "ValueError: no number")


def test_what_the_run_lacks_is_null(tmp_path, experience):
    rows = parquet.read_table(write_rollouts(tmp_path, 1, experience, ["2", "four"], REWARDS)).to_pylist()
    for name in ("rollout_log_probs", "ref_log_probs", "returns", "old_values", "importance_weights"):
        assert [row[name] for row in rows] == [None, None]


def test_files_with_and_without_optional_fields_have_one_schema(tmp_path, experience):
    full = Experience(
        rollouts=experience.rollouts,
        old_log_probs=experience.old_log_probs,
        advantages=experience.advantages,
        loss_mask=experience.loss_mask,
        returns=experience.advantages,
        old_values=experience.advantages,
        importance_weights=experience.advantages,
        ref_log_probs=experience.old_log_probs,
    )
    without = parquet.read_schema(write_rollouts(tmp_path, 1, experience, ["2", "four"], REWARDS))
    with_all = parquet.read_schema(write_rollouts(tmp_path, 2, full, ["2", "four"], REWARDS))
    assert without == with_all


def test_a_step_done_again_replaces_its_file_and_leaves_nothing_else(tmp_path, experience):
    write_rollouts(tmp_path, 1, experience, ["2", "four"], REWARDS)
    write_rollouts(tmp_path, 1, experience, ["3", "five"], REWARDS)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001.parquet"]
    assert parquet.read_table(tmp_path / "step_000001.parquet")["response"].to_pylist() == ["3", "five"]


def test_half_a_surrogate_pair_anywhere_is_written_as_a_question_mark(tmp_path, experience):
    half = "\ud83d"
    prompts = (
        Prompt(7, messages=({"role": "user", "content": half},), reference=half, data_source=half),
        Prompt(9, text=half),
    )
    odd = replace(experience, rollouts=replace(experience.rollouts, prompts=prompts))
    rewards = [Reward(1.0, {half: 1.0}, error=half), Reward(0.0)]
    greedy = GreedyAnswers(scores=[0.0, 0.0], tokens=[1, 1], errors=[half, None])
    path = write_rollouts(tmp_path, 1, odd, [half, "4"], rewards, greedy)
    row = parquet.read_table(path).to_pylist()[0]
    for name in ("data_source", "question", "response", "error", "greedy_error"):
        assert row[name] == "?", name


def test_an_empty_answer_is_an_empty_list(tmp_path, experience):
    empty = Ragged.from_rows([[], []], dtype=torch.int64)
    rollouts = Rollouts(
        prompt_ids=experience.rollouts.prompt_ids,
        response_ids=empty,
        response_mask=empty.with_values(torch.zeros(0, dtype=torch.bool)),
        rollout_log_probs=empty.with_values(torch.zeros(0)),
        group_ids=experience.rollouts.group_ids,
        finish_reasons=("abort", "abort"),
        policy_version=0,
        prompts=experience.rollouts.prompts,
    )
    nothing = empty.with_values(torch.zeros(0))
    path = write_rollouts(
        tmp_path, 1, Experience(rollouts, nothing, nothing, rollouts.response_mask), ["", ""], REWARDS
    )
    rows = parquet.read_table(path).to_pylist()
    assert [row["response_ids"] for row in rows] == [[], []]
    assert [row["rollout_log_probs"] for row in rows] == [[], []]


def test_a_conversations_turns_are_there_and_null_for_answers_of_one_turn(tmp_path, experience):
    said = Conversation((), ({"role": "assistant", "content": "2"},), "answer")
    talked = replace(experience, rollouts=replace(experience.rollouts, conversations=(said, said)))
    texts = [
        [
            row["conversation"]
            for row in parquet.read_table(write_rollouts(tmp_path, 1, each, ["2", "4"], REWARDS)).to_pylist()
        ]
        for each in (experience, talked)
    ]
    assert texts == [[None, None], ['[{"role": "assistant", "content": "2"}]'] * 2]
