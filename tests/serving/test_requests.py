"""Which bodies are taken; `test_errors.py` has what clients are told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlkit.serving.requests import NEUTRAL_ONLY, ChatRequest, CompletionsRequest

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def chat(**more: Any) -> ChatRequest:
    import json

    return ChatRequest.model_validate_json(json.dumps({**CHAT, **more}))


def test_defaults_are_those_of_the_api() -> None:
    body = chat()
    assert (body.samples, body.asked_tokens, body.stop_strings, body.includes_usage) == (1, None, (), False)


def test_one_stop_string_or_several() -> None:
    assert chat(stop="a").stop_strings == ("a",)
    assert chat(stop=["a", "b"]).stop_strings == ("a", "b")


def test_max_completion_tokens_is_another_name() -> None:
    assert chat(max_tokens=3).asked_tokens == chat(max_completion_tokens=3).asked_tokens == 3
    assert chat(max_tokens=3, max_completion_tokens=3).asked_tokens == 3


def test_tools_can_be_hidden() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert len(chat(tools=tools).visible_tools) == 1
    assert chat(tools=tools, tool_choice="none").visible_tools == []


@pytest.mark.parametrize("prompt", ["x", ["x", "y"], [1, 2], [[1], [2, 3]]])
def test_prompts_are_texts_or_tokens_or_lists_of_them(prompt: Any) -> None:
    assert CompletionsRequest(model="m", prompt=prompt).prompt == prompt


@pytest.mark.parametrize("prompt", ["", [], [[]], [""], [1, "x"], [-1], [1.5], [True], None, 3, {"a": 1}, [[1], "x"]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ValidationError):
        CompletionsRequest(model="m", prompt=prompt)


@pytest.mark.parametrize(
    ("name", "neutral", "wrong"),
    [
        ("frequency_penalty", 0, 0.5),
        ("presence_penalty", 0.0, -1),
        ("logit_bias", {}, {"5": 1.0}),
        ("response_format", {"type": "text"}, {"type": "json_object"}),
        ("tool_choice", "auto", "required"),
        ("parallel_tool_calls", True, False),
        ("store", False, True),
    ],
)
def test_what_is_not_supported_may_only_be_sent_with_its_default(name: str, neutral: Any, wrong: Any) -> None:
    assert name in NEUTRAL_ONLY
    chat(**{name: neutral})
    chat(**{name: None})
    with pytest.raises(ValidationError):
        chat(**{name: wrong})


@pytest.mark.parametrize("name", ["best_of", "echo", "suffix"])
def test_completions_have_their_own(name: str) -> None:
    neutral = {"best_of": 1, "echo": False, "suffix": None}[name]
    CompletionsRequest(model="m", prompt="x", **{name: neutral})
    with pytest.raises(ValidationError):
        CompletionsRequest(model="m", prompt="x", **{name: "other"})


def test_every_neutral_parameter_is_one_of_the_bodies() -> None:
    assert set(NEUTRAL_ONLY) <= {*ChatRequest.model_fields, *CompletionsRequest.model_fields}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "robot", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "tool", "content": "3"}],
        [{"role": "user", "content": "x", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}],
    ],
)  # fmt: skip
def test_messages_that_mean_nothing_are_refused(messages: Any) -> None:
    with pytest.raises(ValidationError):
        chat(messages=messages)


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 1e-9},
        {"temperature": float("nan")},
        {"top_logprobs": 2},
        {"stream_options": {"include_usage": True}},
        {"max_tokens": 3, "max_completion_tokens": 4},
        {"seed": 2**63},
        {"n": 0},
        {"stop": ["x"] * 17},
    ],
)
def test_values_out_of_range_or_without_effect_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**more)


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}, {"type": "image"}])
def test_images_are_refused_in_words(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="part 1 is an image, and this server takes text only") as caught:
        chat(messages=[{"role": "user", "content": [{"type": "text", "text": "?"}, part]}])
    assert caught.value.error_count() == 1
