"""What a client asks, as token ids; the work of the tokenizer and of chat templates happens in a thread of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from rlkit.data.rendering import ChatRenderer
from rlkit.data.tokens import encode_opening, encode_texts
from rlkit.errors import DataError
from rlkit.protocols import Tokenizer
from rlkit.serving.errors import refused
from rlkit.serving.requests import ChatMessage, ChatRequest, CompletionsRequest
from rlkit.serving.tool_call_stream import THOUGHT

PROBE_TOOL = {"type": "function", "function": {"name": "probe", "description": "?", "parameters": {}}}


class EncodedChat:
    """token_ids: the rendered conversation; thinking: it ends inside a thought that the template has opened."""

    def __init__(self, token_ids: tuple[int, ...], *, thinking: bool) -> None:
        self.token_ids = token_ids
        self.thinking = thinking


class PromptEncoder:
    """vocabulary: number of tokens that the model knows; token ids of clients are below it."""

    def __init__(self, tokenizer: Tokenizer, *, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._renderer = ChatRenderer(tokenizer)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rlkit-encode")
        encode_texts(tokenizer, ["x"])  # the first call may still change the tokenizer, before others look at it

    async def chat(self, request: ChatRequest) -> EncodedChat:
        """Raises `APIError` for a conversation that the chat template cannot render."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._chat, request)

    async def prompts(self, request: CompletionsRequest) -> list[tuple[int, ...]]:
        """Raises `APIError` for an empty prompt or token ids that the model does not have."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._prompts, request.prompt)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _chat(self, request: ChatRequest) -> EncodedChat:
        if not self._renderer.available:
            raise refused("the model has no chat template; use /v1/completions", param="messages")
        tools = [tool.model_dump(exclude_none=True) for tool in request.visible_tools]
        if tools and not self._renders_tools:
            raise refused(
                "the model's chat template has no place for tools", param="tools", code="unsupported_parameter"
            )
        messages = [_as_template_sees(message, number) for number, message in enumerate(request.messages)]
        try:
            text = self._renderer.render(messages, tools=tools, add_generation_prompt=True)
        except DataError as error:
            raise refused(str(error), param="messages") from error
        token_ids = tuple(encode_texts(self._tokenizer, [text])[0])
        if not token_ids:
            raise refused("the rendered conversation has no tokens", param="messages")
        return EncodedChat(token_ids, thinking=text.rstrip().endswith(THOUGHT))

    def _prompts(self, prompt: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        if isinstance(prompt, str):
            return [self._encoded(prompt)]
        if isinstance(prompt[0], int):
            return [self._checked(prompt)]
        return [self._encoded(part) if isinstance(part, str) else self._checked(part) for part in prompt]

    def _encoded(self, text: str) -> tuple[int, ...]:
        token_ids = tuple(encode_opening(self._tokenizer, text))
        if not token_ids:
            raise refused("prompt: the text has no tokens", param="prompt")
        return token_ids

    def _checked(self, token_ids: Any) -> tuple[int, ...]:
        if max(token_ids) >= self._vocabulary:
            raise refused(
                f"prompt: token id {max(token_ids)} is beyond the model's vocabulary of {self._vocabulary}",
                param="prompt",
            )
        return tuple(token_ids)

    @cached_property
    def _renders_tools(self) -> bool:
        question = [{"role": "user", "content": "x"}]
        return self._renderer.render(question) != self._renderer.render(question, tools=[PROBE_TOOL])


def _as_template_sees(message: ChatMessage, number: int) -> dict[str, Any]:
    """Templates know text, and calls whose arguments are objects."""
    content = message.content or ""
    seen: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": content if isinstance(content, str) else "".join(part.text for part in content),
    }
    for key in ("name", "tool_call_id"):
        if getattr(message, key) is not None:
            seen[key] = getattr(message, key)
    if message.tool_calls:
        calls = []
        for place, call in enumerate(message.tool_calls):
            where = f"messages[{number}].tool_calls[{place}].function.arguments"
            arguments = _json_object(call.function.arguments, where)
            function = {"name": call.function.name, "arguments": arguments}
            calls.append({"id": call.id, "type": "function", "function": function})
        seen["tool_calls"] = calls
    return seen


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise refused(f"{where}: not a JSON object", param=where)
    return value
