from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlkit.data.rendering import ChatRenderer
from rlkit.errors import DataError

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def test_rendering_is_the_tokenizers_own(make_tokenizer: Callable[..., Any], templates: dict[str, str]) -> None:
    for name in ("chatml", "chatml_marked", "llama3", "llama2", "thinking"):
        tokenizer = make_tokenizer(templates[name])
        renderer = ChatRenderer(tokenizer)
        expected = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
        assert renderer.render(MESSAGES) == expected
        assert renderer.render_with_blocks(MESSAGES)[0] == expected


def test_what_a_template_can_do_is_known(make_tokenizer: Callable[..., Any], templates: dict[str, str]) -> None:
    def renderer(name: str) -> ChatRenderer:
        return ChatRenderer(make_tokenizer(templates[name]))

    assert renderer("chatml_marked").marks_assistant
    assert not renderer("chatml").marks_assistant
    assert renderer("chatml").opens_turns
    assert not renderer("header_without_generation_prompt").opens_turns
    assert "<|im_end|>" in renderer("chatml").end_tokens


def test_no_template_says_which_setting_helps(make_tokenizer: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"no chat template; set model\.chat_template"):
        ChatRenderer(make_tokenizer(None)).require("the prompts are chat messages,")


def test_tools_reach_the_template(make_tokenizer: Callable[..., Any]) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    template = "{% for t in tools %}{{ t.function.name }} {% endfor %}{{ messages[0].content }}"
    assert ChatRenderer(make_tokenizer(template)).render(MESSAGES, tools=[tool]) == "add hi"


def test_any_fault_inside_a_template_is_a_data_error(make_tokenizer: Callable[..., Any]) -> None:
    for template in ("{{ messages[9].content.nothing.here }}", "{{ 1 + messages[0].content }}", "{% broken"):
        with pytest.raises(DataError, match="the chat template refuses"):
            ChatRenderer(make_tokenizer(template)).render(MESSAGES)
