"""A tokenizer's chat template, applied to whole lists of conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlkit.errors import DataError
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.types.prompts import Message

GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""transformers' marker in a chat template for what the assistant generates."""

Tools = Sequence[Mapping[str, Any]]

Blocks = list[tuple[int, int]]
"""Character ranges of a rendered conversation that stand in generation blocks, in order."""


@dataclass(frozen=True, eq=False)
class ChatRenderer:
    """Renders conversations to text with `tokenizer`'s chat template."""

    tokenizer: Tokenizer

    @property
    def available(self) -> bool:
        """The tokenizer has a chat template."""
        return bool(self.tokenizer.chat_template)

    def require(self, what: str) -> None:
        """Raise `DataError` when there is no template; `what` needs one."""
        if not self.available:
            raise DataError(
                f"{what} but the tokenizer has no chat template; set model.chat_template to a Jinja template file"
            )

    @cached_property
    def marks_assistant(self) -> bool:
        """The template says itself, by generation blocks, what the assistant generates."""
        return bool(GENERATION_BLOCK.search(self._source(None)))

    @cached_property
    def opens_turns(self) -> bool:
        """The generation prompt adds something: the header of the assistant's turn."""
        question = [{"role": "user", "content": "x"}]
        try:
            return self.render(question) != self.render(question, add_generation_prompt=True)
        except DataError:
            return False

    @cached_property
    def end_tokens(self) -> tuple[str, ...]:
        """Texts of all special tokens: one of them ends a turn."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        texts = {token.content for token in added.values() if getattr(token, "special", False)}
        texts.update(getattr(self.tokenizer, "all_special_tokens", ()))
        return tuple(sorted(text for text in texts if text))

    def render(self, messages: Sequence[Message], *, tools: Tools = (), add_generation_prompt: bool = False) -> str:
        """The conversation as text. Raises `DataError` with the template's own reason when it refuses."""
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=list(tools) or None,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        except Exception as error:
            # A template is a program: it may raise anything, and each means that this conversation does not fit it.
            raise DataError(f"the chat template refuses the conversation: {_reason(error)}") from error
        return str(text)

    def render_with_blocks(self, messages: Sequence[Message], *, tools: Tools = ()) -> tuple[str, Blocks]:
        """The conversation as text, and the generation blocks in it."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, blocks = render_jinja_template(
                conversations=[[dict(message) for message in messages]],
                tools=list(tools) or None,
                chat_template=self._source(list(tools) or None),
                return_assistant_tokens_mask=True,
                **getattr(self.tokenizer, "special_tokens_map", {}),
            )
        except Exception as error:
            # As in `render`.
            raise DataError(f"the chat template refuses the conversation: {_reason(error)}") from error
        return texts[0], [(int(start), int(end)) for start, end in blocks[0]]

    def _source(self, tools: Any) -> str:
        """The template's text; a tokenizer may have several by name."""
        choose = getattr(self.tokenizer, "get_chat_template", None)
        return str(choose(None, tools) if choose is not None else self.tokenizer.chat_template)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
