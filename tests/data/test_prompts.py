from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from rlkit.data.prompts import load_prompts
from rlkit.errors import DataError
from rlkit.types import Prompt

USER = {"role": "user", "content": "What is 1 + 1?"}

VERL = [
    {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "system", "content": "Think."}, USER],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"split": "train", "index": 0, "answer": "1 + 1 = 2\n#### 2"},
    },
    {
        "data_source": "hiyouga/geometry3k",
        "prompt": [{"role": "user", "content": "<image>What is it?"}],
        "images": [{"bytes": "aGVsbG8=", "path": "a.png"}],
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"index": 1, "need_tools_kwargs": True},
        "agent_name": "single_turn_agent",
    },
]
TRL_STRINGS = [
    {"prompt": "The sky is", "solution": "blue", "difficulty": 1},
    {"prompt": "Grass is", "solution": "green"},
]
TRL_CHATS = [{"prompt": [USER], "ground_truth": "2", "topic": "sums"}, {"prompt": [USER], "ground_truth": "3"}]
MESSAGES = [{"messages": [USER, {"role": "assistant", "content": "2"}]}, {"messages": [USER]}]
GSM8K = [{"question": "1 + 1?", "answer": "It is 2.\n#### 2"}, {"question": "2 + 2?", "answer": "#### 4"}]
ALPACA = [
    {"instruction": "Add.", "input": "1 and 1", "output": "2"},
    {"instruction": "Sing.", "input": "", "output": "la"},
]

FORMATS = {
    "verl": VERL,
    "trl_strings": TRL_STRINGS,
    "trl_chats": TRL_CHATS,
    "messages": MESSAGES,
    "gsm8k": GSM8K,
    "alpaca": ALPACA,
}


def as_jsonl(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def as_parquet(folder: Path, rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    path = folder / "rows.parquet"
    pa.parquet.write_table(table, path)
    return str(path)


@pytest.mark.parametrize("name", FORMATS)
def test_jsonl_and_parquet_give_equal_prompts(tmp_path: Path, name: str) -> None:
    from_jsonl = load_prompts([as_jsonl(tmp_path, FORMATS[name])])
    assert from_jsonl == load_prompts([as_parquet(tmp_path, FORMATS[name])])
    assert [prompt.row_id for prompt in from_jsonl] == [0, 1]


def test_verl_rows_load_unchanged(tmp_path: Path) -> None:
    first, second = load_prompts([as_parquet(tmp_path, VERL)])
    assert first == Prompt(
        row_id=0,
        messages=({"role": "system", "content": "Think."}, USER),
        reference="2",
        data_source="openai/gsm8k",
        extra={
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"split": "train", "index": 0, "answer": "1 + 1 = 2\n#### 2"},
        },
    )
    assert second.images == (b"hello",)
    assert second.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    assert second.extra["agent_name"] == "single_turn_agent"


def test_trl_rows_keep_their_further_columns(tmp_path: Path) -> None:
    first, second = load_prompts([as_jsonl(tmp_path, TRL_STRINGS)])
    assert first == Prompt(row_id=0, text="The sky is", reference="blue", extra={"difficulty": 1})
    assert second.extra == {}
    chat = load_prompts([as_jsonl(tmp_path, TRL_CHATS)])[0]
    assert chat == Prompt(row_id=0, messages=(USER,), reference="2", extra={"topic": "sums"})


def test_question_and_answer_keep_the_answer_as_it_is(tmp_path: Path) -> None:
    assert load_prompts([as_jsonl(tmp_path, GSM8K)])[0] == Prompt(0, text="1 + 1?", reference="It is 2.\n#### 2")


def test_a_whole_conversation_is_asked_up_to_its_last_answer(tmp_path: Path) -> None:
    first, second = load_prompts([as_jsonl(tmp_path, MESSAGES)])
    assert (first.messages, first.reference) == ((USER,), "2")
    assert (second.messages, second.reference) == ((USER,), None)


def test_alpaca_input_stands_below_the_instruction(tmp_path: Path) -> None:
    first, second = load_prompts([as_jsonl(tmp_path, ALPACA)], reference_key="output")
    assert (first.text, first.reference) == ("Add.\n\n1 and 1", "2")
    assert second.text == "Sing."


def test_a_system_prompt_makes_a_chat_of_plain_text(tmp_path: Path) -> None:
    prompt = load_prompts([as_jsonl(tmp_path, GSM8K)], system_prompt="Be brief.")[0]
    assert prompt.text is None
    assert prompt.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"})
    own = load_prompts([as_jsonl(tmp_path, VERL)], system_prompt="Be brief.")
    assert own[0].messages[0]["content"] == "Think."
    assert own[1].messages[0]["content"] == "Be brief."


def test_explicit_keys_limit_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = as_jsonl(tmp_path, [{"q": "a", "info": {"ref": 1}}, {"q": "b", "info": {"ref": 2}}])
    second = as_jsonl(tmp_path / "other", [{"q": "c", "info": {"ref": 3}}])
    prompts = load_prompts([first, second], prompt_key="q", reference_key="info.ref")
    assert [(prompt.row_id, prompt.text, prompt.reference) for prompt in prompts] == [
        (0, "a", 1),
        (1, "b", 2),
        (2, "c", 3),
    ]
    assert len(load_prompts([first, second], prompt_key="q", limit=2)) == 2


def test_each_file_may_have_its_own_format(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    prompts = load_prompts([as_jsonl(tmp_path, GSM8K), as_parquet(tmp_path / "other", VERL)])
    assert [prompt.reference for prompt in prompts] == ["It is 2.\n#### 2", "#### 4", "2", "4"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "x"}, {"prompt": " "}], r"rows.jsonl, line 2: column 'prompt' is empty$"),
        ([{"prompt": "x"}, {"other": "y"}], r"line 2: no column 'prompt' \(prompt_key\); columns: other"),
        ([{"prompt": 3}], "line 1: column 'prompt' should hold a list of messages, got int"),
        ([{"prompt": [USER, {"role": "assistant", "content": "2"}]}], "line 1: .*ends with an assistant message"),
        ([{"messages": [{"role": "assistant", "content": "2"}]}], "line 1: .*nothing to answer"),
    ],
)
def test_a_row_without_a_usable_prompt_is_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_prompts([as_jsonl(tmp_path, rows)])


def test_gsm8k_loads(shared_data: Path) -> None:
    prompts = load_prompts([str(shared_data / "gsm8k_test.jsonl")])
    assert len(prompts) == 1319
    assert all(prompt.text and "####" in prompt.reference for prompt in prompts)
