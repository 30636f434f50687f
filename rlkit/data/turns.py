"""The tokens that stand between two turns of the policy, so that what it sampled is never encoded again.

    first prompt        sampled          between                                              sampled
    ...<|assistant|>    I call f<|end|>  <|tool|>42<|end|><|assistant|>                       It is 42.<|end|>

Only the chat template knows what goes between. It is asked with a marker in place of the policy's last message: what it
writes behind the marker closes that turn, holds the new messages and opens the next turn. What it writes before is not
looked at, so a template that shows earlier turns in another way than the last one (thinking removed) changes nothing.

A template that refuses the marker or does not show it, because it wants a tool's result behind its call, is asked twice,
without and with the new messages: what the second rendering has beyond the first goes between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlkit.data.rendering import ChatRenderer, Tools
from rlkit.data.tokens import encode_continuation, encode_texts
from rlkit.errors import DataError
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.types.prompts import Message

MARKER = "\ue0f1"
"""A private-use character: no template treats it in a special way, and one character cannot be shown by half. It is taken
out of new messages."""
MAX_OVERLAP = 16
"""Tokens at the end of a sampled turn that may already be what the template closes a turn with (a stop string)."""

PROBE_QUESTION: Message = {"role": "user", "content": "question"}


@dataclass(frozen=True, eq=False)
class TurnRenderer:
    """Renders what is not sampled; `tools` are the JSON schemas that the template shows the model."""

    tokenizer: Tokenizer
    tools: Tools = ()

    @cached_property
    def _renderer(self) -> ChatRenderer:
        return ChatRenderer(self.tokenizer)

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the first prompt, the header of the policy's turn included."""
        text = self._render(messages, add_generation_prompt=True)
        return encode_texts(self.tokenizer, [text])[0]

    def between(
        self, before: Sequence[Message], said: Message, sampled_ids: Sequence[int], new: Sequence[Message]
    ) -> list[int]:
        """Token ids behind a turn: its end as far as it was not sampled, `new`, and the header of the next turn.

        before       the messages that the turn answers
        said         the turn as a message, with `tool_calls` if it makes calls
        sampled_ids  its tokens
        Raises `DataError` when the template does not tell.
        """
        text = self._text_between(before, said, new)
        ids = _behind_overlap(sampled_ids, encode_continuation(self.tokenizer, text))
        if not ids:
            raise DataError(
                "the chat template puts nothing between two turns of the assistant, so they cannot be told apart"
            )
        return ids

    def shown(self, message: Message) -> Message:
        """`message` with texts that cannot pass for the template's: a tool's output must not open turns of its own."""
        content = message.get("content", "")
        if isinstance(content, str):
            return {**message, "content": self._defused(content)}
        parts = [
            {**part, "text": self._defused(part["text"])} if isinstance(part, Mapping) and "text" in part else part
            for part in content
        ]
        return {**message, "content": parts}

    def check(self, new: Message, *, call: Mapping[str, Any] | None = None) -> None:
        """Raises `DataError` when the template could not go on with a message like `new`, behind a turn with `call`.

        Some templates pass over a role that they do not know without a word.
        """
        self._renderer.require("conversations of several turns are made of chat messages,")
        said: Message = {"role": "assistant", "content": "answer", **({} if call is None else {"tool_calls": [call]})}
        try:
            # Twice: an earlier turn may be more than the template bears.
            for before in ([PROBE_QUESTION], [PROBE_QUESTION, said, new]):
                self.between(before, said, [], [new])
                if str(new["content"]) not in self._text_between(before, said, [new]):
                    raise DataError(f"it does not show messages of the role {new['role']!r}")
        except DataError as error:
            raise DataError(
                f"no conversation of several turns with this chat template: {error}; "
                "set model.chat_template to a template that takes such messages"
            ) from error

    def _text_between(self, before: Sequence[Message], said: Message, new: Sequence[Message]) -> str:
        marked = [*before, {"role": "assistant", "content": MARKER}, *new]
        try:
            rendered = self._render(marked, add_generation_prompt=True)
            _, found, behind = rendered.rpartition(MARKER)
            if not found:
                raise DataError("the chat template does not show what the assistant says, so its end cannot be found")
        except DataError:
            if not said.get("tool_calls"):
                raise
            return self._text_beyond([*before, said], new)
        return behind

    def _text_beyond(self, messages: Sequence[Message], new: Sequence[Message]) -> str:
        """What rendering `new` too adds, behind the special token that ends the last of `messages`."""
        whole = self._render([*messages, *new], add_generation_prompt=True)
        part = self._render(messages)
        if not whole.startswith(part):
            raise DataError("the chat template shows an assistant's turn in another way once a message follows it")
        shown = part.rstrip()
        ends = [token for token in self._renderer.end_tokens if shown.endswith(token)]
        return whole[len(shown) - len(max(ends, key=len, default="")) :]

    def _render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """As the template shows them. Some templates want the arguments of calls as a table, some as a JSON text."""
        try:
            return self._renderer.render(messages, tools=self.tools, add_generation_prompt=add_generation_prompt)
        except DataError:
            if not any(message.get("tool_calls") for message in messages):
                raise
            written = [_with_arguments_as_text(message) for message in messages]
            return self._renderer.render(written, tools=self.tools, add_generation_prompt=add_generation_prompt)

    def _defused(self, text: str) -> str:
        text = text.replace(MARKER, "")
        for token in self._renderer.end_tokens:
            if len(token) > 1:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _with_arguments_as_text(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _behind_overlap(sampled: Sequence[int], ids: list[int]) -> list[int]:
    """`ids` without their beginning, as far as it is what was sampled last."""
    for length in range(min(len(sampled), len(ids), MAX_OVERLAP), 0, -1):
        if list(sampled[-length:]) == ids[:length]:
            return ids[length:]
    return ids
