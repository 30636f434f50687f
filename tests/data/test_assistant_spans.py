from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rlkit.data.assistant_spans import find_assistant_spans
from rlkit.data.rendering import ChatRenderer
from rlkit.errors import DataError

Make = Callable[..., Any]

END_OF_TURN = {
    "chatml": "<|im_end|>",
    "chatml_marked": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "header_without_generation_prompt": "<|im_end|>",
    "thinking": "<|im_end|>",
    "thinking_prompt": "<|im_end|>",
}


def chat(*texts: str, system: str = "") -> list[dict[str, str]]:
    """user, assistant, user, ... in turn."""
    roles = ("user", "assistant")
    turns = [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def said(tokenizer: Any, messages: list[dict[str, str]], num_context: int = 0) -> list[str]:
    rendered = find_assistant_spans(ChatRenderer(tokenizer), messages, num_context=num_context)
    return [rendered.text[start:end] for start, end in rendered.spans]


@pytest.mark.parametrize("name", ["chatml", "chatml_marked", "llama3", "header_without_generation_prompt"])
def test_spans_are_the_contents_and_their_end_of_turn(
    make_tokenizer: Make, templates: dict[str, str], name: str
) -> None:
    tokenizer = make_tokenizer(templates[name])
    end = END_OF_TURN[name]
    messages = chat("hi", "hello", "1 + 1?", "It is 2.", system="Be kind.")
    assert said(tokenizer, messages) == ["hello" + end, "It is 2." + end]
    assert said(tokenizer, messages, num_context=4) == ["It is 2." + end]
    assert said(tokenizer, messages[:-1]) == ["hello" + end]


def test_a_template_without_header_learns_the_space_that_it_puts_before_the_answer(
    make_tokenizer: Make, templates: dict[str, str]
) -> None:
    tokenizer = make_tokenizer(templates["llama2"])
    assert said(tokenizer, chat("hi", "hello", "1 + 1?", "2")) == [" hello<|im_end|>", " 2<|im_end|>"]


def test_rewritten_earlier_turns_are_learned_as_they_are_shown(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["thinking"])
    messages = chat("hi", "<think>\nshort\n</think>\n\nhello", "1 + 1?", "<think>\nadd\n</think>\n\n2")
    assert said(tokenizer, messages) == ["hello<|im_end|>", "<think>\nadd\n</think>\n\n2<|im_end|>"]
    assert said(tokenizer, chat("hi", "hello", "1 + 1?", "2")) == [
        "hello<|im_end|>",
        "<think>\n\n</think>\n\n2<|im_end|>",
    ]


def test_thinking_in_the_generation_prompt_is_no_header(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["thinking_prompt"])
    messages = chat("hi", "<think>short</think>hello", "1 + 1?", "2")
    assert said(tokenizer, messages) == ["hello<|im_end|>", "2<|im_end|>"]


def test_a_template_that_leaves_out_an_answer_is_refused(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["forgetful"])
    assert said(tokenizer, chat("hi", "hello")) == ["hello<|im_end|>"]
    with pytest.raises(DataError, match=r"assistant message 2 of the conversation.*\{% generation %\}"):
        said(tokenizer, chat("hi", "hello", "1 + 1?", "2"))


def test_answers_in_a_row_and_an_opening_answer_are_found(make_tokenizer: Make, templates: dict[str, str]) -> None:
    messages = [
        {"role": "assistant", "content": "Welcome."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "bye"},
    ]
    for name in ("chatml", "chatml_marked", "llama3"):
        end = END_OF_TURN[name]
        assert said(make_tokenizer(templates[name]), messages) == ["Welcome." + end, "one" + end, "two" + end]


def test_special_tokens_inside_a_message_do_not_move_the_spans(make_tokenizer: Make, templates: dict[str, str]) -> None:
    trick = "x<|im_end|>\n<|im_start|>assistant\ny"
    assert said(make_tokenizer(templates["chatml"]), chat(trick, "hello", trick, "2")) == [
        "hello<|im_end|>",
        "2<|im_end|>",
    ]


def test_a_conversation_without_assistant_has_nothing_to_learn(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    with pytest.raises(DataError, match="no assistant message"):
        said(tokenizer, chat("hi"))
    with pytest.raises(DataError, match="no assistant message"):
        said(tokenizer, chat("hi", "hello"), num_context=2)


def test_the_reason_of_a_template_that_refuses_is_passed_on(make_tokenizer: Make, templates: dict[str, str]) -> None:
    with pytest.raises(DataError, match="only user and assistant roles are supported"):
        said(make_tokenizer(templates["llama2"]), chat("hi", "hello", system="Be kind."))


contents = st.one_of(
    st.text(min_size=1, max_size=30),
    st.sampled_from(
        ["hello", " 2", "\n\nx", "y\n", "assistant", "<|im_start|>user\n", "<|im_end|>", "</s> ", "a  ", "\n", " \n "]
    ),
)


@settings(deadline=None, max_examples=80)
@given(texts=st.lists(contents, min_size=2, max_size=6), name=st.sampled_from(["chatml", "chatml_marked", "llama3"]))
def test_spans_hold_for_any_conversation(
    make_tokenizer: Make, templates: dict[str, str], texts: list[str], name: str
) -> None:
    trim = str.strip if name == "llama3" else str
    assert said(make_tokenizer(templates[name]), chat(*texts)) == [
        trim(text) + END_OF_TURN[name] for text in texts[1::2]
    ]


@settings(deadline=None, max_examples=80)
@given(texts=st.lists(contents, min_size=2, max_size=6))
@example(texts=["0", "\n", "0"])
def test_spans_hold_for_any_conversation_in_a_template_that_rewrites(
    make_tokenizer: Make, templates: dict[str, str], texts: list[str]
) -> None:
    assume(not any("think>" in text for text in texts))
    answers = [text.lstrip("\n") + "<|im_end|>" for text in texts[1::2]]
    if len(texts) % 2 == 0:
        answers[-1] = "<think>\n\n</think>\n\n" + answers[-1]
    assert said(make_tokenizer(templates["thinking"]), chat(*texts)) == answers
