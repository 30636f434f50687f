"""Prompts and conversations to token ids, through the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlkit.data.assistant_spans import find_assistant_spans
from rlkit.data.rendering import ChatRenderer, Tools
from rlkit.data.tokens import encode_opening, encode_texts, encode_with_spans
from rlkit.errors import DataError
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.types.prompts import Message, Prompt, PromptBatch


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """What is left of the prompts after the length limit.

    batch    prompts and token ids; a plain text that was rendered as chat has become a user message
    dropped  prompts left out because they were too long
    longest  tokens of the longest prompt, the dropped ones included
    """

    batch: PromptBatch
    dropped: int
    longest: int


def encode_prompts(
    prompts: Sequence[Prompt],
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    overlong: Literal["refuse", "drop"],
    section: str = "data",
    tools: Tools = (),
) -> EncodedPrompts:
    """Render each prompt with the generation prompt and encode it; none is ever cut.

    A plain text becomes a user message when the tokenizer has a chat template and is encoded as it is when not.
    The template shows each prompt's own `tools` column, or else `tools`. `section` is the config section that error
    messages name. Raises `DataError` for messages without a template, for
    prompts over `max_tokens` unless they are to be dropped, and when none is left.
    """
    renderer = ChatRenderer(tokenizer)
    chats = [_as_chat(prompt) if renderer.available else prompt for prompt in prompts]
    if any(prompt.text is None for prompt in chats):
        renderer.require("the prompts are chat messages,")
    rendered = {
        index: _render_prompt(renderer, prompt, tools) for index, prompt in enumerate(chats) if prompt.text is None
    }
    ids = dict(zip(rendered, encode_texts(tokenizer, list(rendered.values())), strict=True))
    for index, prompt in enumerate(chats):
        if prompt.text is not None:
            ids[index] = encode_opening(tokenizer, prompt.text)
        if not ids[index]:
            raise DataError(f"prompt {prompt.row_id} (rows counted from 0) has no tokens")
    lengths = [len(ids[index]) for index in range(len(chats))]
    kept = [index for index, length in enumerate(lengths) if length <= max_tokens]
    dropped, longest = len(chats) - len(kept), max(lengths, default=0)
    if dropped and (overlong == "refuse" or not kept):
        raise DataError(
            f"{dropped} of {len(chats)} prompts are longer than {section}.max_prompt_tokens = {max_tokens} "
            f"(longest: {longest} tokens); raise {section}.max_prompt_tokens to {longest}"
            + (f' or set {section}.overlong_prompts = "drop"' if kept else "; with this limit no prompt is left")
        )
    batch = PromptBatch(tuple(chats[index] for index in kept), tuple(tuple(ids[index]) for index in kept))
    return EncodedPrompts(batch, dropped, longest)


def encode_conversation(
    messages: Sequence[Message], tokenizer: Tokenizer, *, tools: Tools = (), num_context: int = 0
) -> tuple[list[int], list[bool]]:
    """Token ids of the rendered conversation and which of them are to be learned.

    Learned is what the assistant says: its content and end-of-turn token in every turn behind the first `num_context`
    messages; no header, no other role. Raises `DataError` when there is no such token or the template hides them.
    """
    renderer = ChatRenderer(tokenizer)
    renderer.require("the conversation is made of chat messages,")
    rendered = find_assistant_spans(renderer, messages, tools=tools, num_context=num_context)
    token_ids, learned = encode_with_spans(tokenizer, [rendered.text], [rendered.spans])[0]
    learned[:1] = [False]  # nothing comes before the first token, so nothing predicts it
    if not any(learned):
        raise DataError("there is no assistant token to learn from")
    return token_ids, learned


def _as_chat(prompt: Prompt) -> Prompt:
    if prompt.text is None:
        return prompt
    return replace(prompt, text=None, messages=({"role": "user", "content": prompt.text},))


def _render_prompt(renderer: ChatRenderer, prompt: Prompt, tools: Tools) -> str:
    try:
        return renderer.render(prompt.messages, tools=prompt.extra.get("tools") or tools, add_generation_prompt=True)
    except DataError as error:
        raise DataError(f"prompt {prompt.row_id} (rows counted from 0): {error}") from error
