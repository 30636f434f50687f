from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from rlkit.data.conversations import Conversation, load_conversations
from rlkit.errors import DataError


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be kind."}

FORMATS: dict[str, tuple[list[dict[str, Any]], tuple[Any, ...]]] = {
    "messages": (
        [
            {"messages": [SYSTEM, user("a"), assistant("b"), user("c"), assistant("d")]},
            {"messages": [user("x"), assistant("y")]},
        ],
        (SYSTEM, user("a"), assistant("b"), user("c"), assistant("d")),
    ),
    "sharegpt": (
        [
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "Be kind."},
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
        ],
        (SYSTEM, user("a"), assistant("b")),
    ),
    "alpaca": (
        [
            {"instruction": "a", "input": "b", "output": "c", "history": [["q", "r"]], "system": "Be kind."},
            {"instruction": "x", "input": "", "output": "y"},
        ],
        (SYSTEM, user("q"), assistant("r"), user("a\n\nb"), assistant("c")),
    ),
    "question_answer": (
        [{"question": "a", "answer": "b\n#### 2"}, {"question": "x", "answer": "y"}],
        (user("a"), assistant("b\n#### 2")),
    ),
    "prompt_completion": (
        [
            {"prompt": [user("a")], "completion": [assistant("b")]},
            {"prompt": [user("x")], "completion": [assistant("y")]},
        ],
        (user("a"), assistant("b")),
    ),
}


def write(folder: Path, rows: list[dict[str, Any]], ending: str = ".jsonl") -> str:
    path = folder / f"rows{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        pa.parquet.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    return str(path)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_found_by_its_columns(tmp_path: Path, name: str, ending: str) -> None:
    rows, expected = FORMATS[name]
    path = write(tmp_path, rows, ending)
    conversations = load_conversations([path])
    assert conversations[0].messages == expected
    assert conversations[1].messages == (user("x"), assistant("y"))
    assert [(c.messages, c.num_context) for c in load_conversations([path], format=name)] == [
        (c.messages, c.num_context) for c in conversations
    ]


def test_plain_prompt_and_completion_stay_plain(tmp_path: Path) -> None:
    path = write(tmp_path, [{"prompt": "The sky is", "completion": " blue"}])
    assert load_conversations([path], system_prompt="ignored for plain text") == [
        Conversation(0, f"{path}, line 1", prompt="The sky is", completion=" blue")
    ]


def test_the_prompt_of_a_chat_completion_is_context(tmp_path: Path) -> None:
    prompt = [user("a"), assistant("not learned"), user("c")]
    path = write(tmp_path, [{"prompt": prompt, "completion": [assistant("d")]}, {"prompt": prompt, "completion": "d"}])
    first, second = load_conversations([path])
    assert (first.messages, first.num_context) == ((*prompt, assistant("d")), 3)
    assert (second.messages, second.num_context) == (first.messages, first.num_context)
    assert load_conversations([path], system_prompt="Be kind.")[0].num_context == 4


def test_a_system_prompt_goes_before_conversations_that_have_none(tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), assistant("b")]}, {"messages": [SYSTEM, user("a"), assistant("b")]}]
    first, second = load_conversations([write(tmp_path, rows)], system_prompt="Be brief.")
    assert first.messages[0] == {"role": "system", "content": "Be brief."}
    assert first.num_context == 0
    assert second.messages[0] == SYSTEM


def test_tools_come_along(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    path = write(tmp_path, [{"messages": [user("a"), assistant("b")], "tools": [tool]}])
    assert load_conversations([path])[0].tools == (tool,)


@pytest.mark.parametrize(
    ("rows", "format", "message"),
    [
        ([{"text": "x"}], "auto", "line 1: columns text fit no known format"),
        (
            [{"question": "x"}],
            "question_answer",
            "no column 'answer', which format 'question_answer' needs; columns: question",
        ),
        ([{"question": "x", "answer": "y"}, {"question": "x"}], "auto", "line 2: no column 'answer'"),
        ([{"messages": "hello"}], "auto", "line 1: column 'messages' should hold a list of messages"),
        ([{"messages": [user("a"), {"role": "assistant", "content": 1}]}], "auto", "message 2: content should be text"),
        ([{"instruction": "", "output": "x"}], "auto", "column 'instruction' is empty"),
        ([{"question": 3, "answer": "x"}], "auto", "column 'question' should hold text, got int"),
        ([{"prompt": "x", "completion": ""}], "auto", "column 'completion' is empty"),
        ([{"prompt": "x", "completion": [assistant("y")]}], "auto", "'completion' should hold one, too"),
        ([{"instruction": "x", "output": "y", "history": ["z"]}], "auto", "column 'history' should hold pairs"),
        ([{"messages": [user("a")], "tools": "none"}], "auto", "column 'tools' should hold a list"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], format: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_conversations([write(tmp_path, rows)], format=format)
    assert "rows.jsonl, line" in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("<image>?"), assistant("Red.")], "images": ["red.png"]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "red.png"}]}, assistant("Red.")]},
    ],
)
def test_conversations_with_images_are_refused_by_name_of_the_row(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path, [{"messages": [user("?"), assistant("!")], "images": []}, row])
    with pytest.raises(DataError, match="line 2: the conversation has images, and fine-tuning takes text only"):
        load_conversations([path])
