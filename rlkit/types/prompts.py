"""What is asked: messages, the reference answer, where the row came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One chat message: `{"role": ..., "content": ...}`, as the field writes it."""


@dataclass(frozen=True)
class Prompt:
    """One row of a prompts file, with everything that a reward may want to know.

    row_id identifies the row in its data set (stable across runs: file order).
    text is set, and messages empty, when the file gave a plain string that is not to be rendered as chat.
    images are whole files (PNG, JPEG, ...), in the order of the `{"type": "image"}` parts of the messages.
    """

    row_id: int
    messages: tuple[Message, ...] = ()
    text: str | None = None
    reference: Any = None  # ground truth; what it is depends on the reward
    data_source: str = "default"
    images: tuple[bytes, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # all other columns of the row

    @property
    def question(self) -> str:
        """The last user turn, or the plain text: what a person would call the question."""
        if self.text is not None:
            return self.text
        for message in reversed(self.messages):
            if message.get("role") == "user":
                content = message.get("content", "")
                return content if isinstance(content, str) else str(content)
        return ""


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts with their token ids, aligned by position.

    conversations names the conversation that each prompt goes on with, or is empty. Replicas of an engine keep one that
    shares a name on one replica, where its beginning may still be in the cache; answers do not depend on it.
    """

    prompts: tuple[Prompt, ...]
    token_ids: tuple[tuple[int, ...], ...]
    conversations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.token_ids):
            raise ValueError(f"{len(self.prompts)} prompts, but token ids for {len(self.token_ids)}")
        if self.conversations and len(self.prompts) != len(self.conversations):
            raise ValueError(f"{len(self.prompts)} prompts, but conversations for {len(self.conversations)}")

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> PromptBatch:
        return PromptBatch(
            tuple(self.prompts[r] for r in rows),
            tuple(self.token_ids[r] for r in rows),
            tuple(self.conversations[r] for r in rows) if self.conversations else (),
        )
