from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.serving.errors import APIError
from rlkit.serving.prompt_encoder import PromptEncoder
from rlkit.serving.requests import ChatRequest, CompletionsRequest

TOOL = {"type": "function", "function": {"name": "add"}}


def chat(tokenizer: Any, messages: list[Any], **more: Any) -> Any:
    encoder = PromptEncoder(tokenizer, vocabulary=len(tokenizer))
    body = ChatRequest.model_validate_json(json.dumps({"model": "m", "messages": messages, **more}))
    try:
        return asyncio.run(encoder.chat(body))
    finally:
        encoder.close()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture
def plain() -> Any:
    """The template of rlkit's own small tokenizers, which knows no tools."""
    return make_tokenizer("byte", context_length=64)


def test_the_generation_prompt_is_there(plain: Any) -> None:
    assert plain.decode(chat(plain, [user("hi")]).token_ids) == "<|user|>hi<|end|><|assistant|>"


def test_a_template_that_ignores_tools_is_not_given_any(plain: Any) -> None:
    with pytest.raises(APIError, match="no place for tools"):
        chat(plain, [user("hi")], tools=[TOOL])
    assert chat(plain, [user("hi")], tools=[TOOL], tool_choice="none").token_ids


def test_what_the_template_refuses_is_the_client_s_fault(plain: Any) -> None:
    with pytest.raises(APIError, match="role must be system, user or assistant") as refused:
        chat(plain, [{"role": "tool", "content": "3", "tool_call_id": "c"}])
    assert refused.value.status == 400


def test_a_tokenizer_without_a_template_cannot_chat(plain: Any) -> None:
    plain.chat_template = None
    with pytest.raises(APIError, match="/v1/completions"):
        chat(plain, [user("hi")])


@pytest.mark.parametrize("arguments", ["not JSON", "[1]", "[" * 100_000])
def test_past_calls_need_arguments_that_are_an_object(tokenizer: Any, arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(APIError, match="not a JSON object") as refused:
        chat(tokenizer, [user("x"), {"role": "assistant", "tool_calls": [call]}])
    assert refused.value.body.error.param == "messages[1].tool_calls[0].function.arguments"


def test_a_template_may_open_a_thought(tokenizer: Any, plain: Any) -> None:
    plain.chat_template = "{{ messages[0].content }}<think>\n"
    assert chat(plain, [user("x")]).thinking
    assert not chat(tokenizer, [user("x")]).thinking


def test_a_text_without_tokens_is_refused() -> None:
    tokenizer = make_tokenizer("char", alphabet="ab", context_length=16)

    class Silent:
        """Encodes nothing."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode(self, text: str, **options: Any) -> list[int]:
            return []

        def __call__(self, texts: Any, **options: Any) -> Any:
            return tokenizer(texts, **options)

    encoder = PromptEncoder(Silent(), vocabulary=8)  # type: ignore[arg-type]
    with pytest.raises(APIError, match="has no tokens"):
        asyncio.run(encoder.prompts(CompletionsRequest(model="m", prompt="x")))
    encoder.close()
