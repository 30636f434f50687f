"""Anything that encodes, decodes and renders a chat; transformers tokenizers fit as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that rlkit relies on."""

    eos_token_id: int | None
    pad_token_id: int | None
    chat_template: Any

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str: ...

    def batch_decode(self, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool = ...) -> list[str]: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...
