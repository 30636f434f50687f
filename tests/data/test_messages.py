from __future__ import annotations

import pytest

from rlkit.data.messages import parse_messages, text_of, with_system_prompt
from rlkit.errors import DataError

USER = {"role": "user", "content": "hi"}


def test_both_ways_of_writing_messages_give_the_same() -> None:
    sharegpt = [{"from": "system", "value": "s"}, {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]
    openai = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    assert parse_messages(sharegpt, "x") == parse_messages(openai, "x") == tuple(openai)


def test_further_fields_of_a_message_are_kept_and_missing_content_is_empty() -> None:
    call = {"role": "assistant", "tool_calls": [{"name": "f"}]}
    assert parse_messages([call], "x") == ({"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "should hold a list of messages, got str"),
        ([], "holds no messages"),
        (["text"], "message 1: expected an object"),
        ([USER, {"content": "x"}], "message 2: has neither 'role' nor 'from', only content"),
        ([{"from": "martian", "value": "x"}], "unknown speaker 'martian'"),
        ([{"role": "", "content": "x"}], "role should be a name"),
        ([{"role": "user", "content": 3}], "content should be text or a list of parts, got int"),
    ],
)
def test_what_is_no_message_is_refused(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_messages(value, "messages")


def test_a_system_prompt_goes_first_unless_there_is_one() -> None:
    system = {"role": "system", "content": "own"}
    assert with_system_prompt((USER,), "be kind") == ({"role": "system", "content": "be kind"}, USER)
    assert with_system_prompt((system, USER), "be kind") == (system, USER)
    assert with_system_prompt((USER,), "") == (USER,)


def test_the_text_of_parts_is_joined() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert text_of({"role": "user", "content": parts}) == "ab"
