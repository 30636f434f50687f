"""Conversations as token ids with loss masks: what supervised fine-tuning reads its batches from.

There is no packing here, because none is needed: a batch's rows are laid end to end without padding, and each attends
to itself alone (see `rlkit.models.packed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlkit.data.assistant_spans import find_assistant_spans
from rlkit.data.conversations import Conversation
from rlkit.data.rendering import ChatRenderer
from rlkit.data.tokens import Span, encode_opening, encode_texts, encode_with_spans
from rlkit.errors import DataError
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.types.ragged import Ragged
from rlkit.types.supervised import SupervisedBatch

Encoded = tuple[list[int], list[bool]]


@dataclass(frozen=True, eq=False)
class SupervisedData:
    """Encoded conversations.

    batch    all of them, as one batch
    row_ids  the conversation that each row was made from
    dropped  conversations left out because they were too long
    longest  tokens of the longest conversation, the dropped ones included
    """

    batch: SupervisedBatch
    row_ids: tuple[int, ...]
    dropped: int
    longest: int

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [int(length) for length in self.batch.token_ids.lengths.tolist()]

    def select(self, rows: Sequence[int]) -> SupervisedBatch:
        """A batch of the given rows (positions, not row ids), in the given order."""
        return self.batch.select(rows)


def encode_conversations(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    overlong: Literal["refuse", "drop"],
    section: str = "data",
) -> SupervisedData:
    """Encode all conversations; none is ever cut.

    `section` is the config section that error messages name. Raises `DataError`, naming file and line, for a row without
    anything to learn or one whose assistant turns cannot be found in the chat template's output; and for rows over
    `max_length` tokens unless they are to be dropped, or when none is left.
    """
    import torch

    encoded = _encode_all(conversations, tokenizer)
    kept = [index for index, (ids, _) in enumerate(encoded) if len(ids) <= max_length]
    dropped, longest = len(encoded) - len(kept), max((len(ids) for ids, _ in encoded), default=0)
    if dropped and (overlong == "refuse" or not kept):
        raise DataError(
            f"{dropped} of {len(encoded)} conversations are longer than {section}.max_length = {max_length} "
            f"(longest: {longest} tokens); raise {section}.max_length to {longest}"
            + (f' or set {section}.overlong = "drop"' if kept else "; with this limit no conversation is left")
        )
    lengths = torch.tensor([len(encoded[index][0]) for index in kept], dtype=torch.int64)
    token_ids = torch.tensor([token for index in kept for token in encoded[index][0]], dtype=torch.int64)
    loss_mask = torch.tensor([learned for index in kept for learned in encoded[index][1]], dtype=torch.bool)
    return SupervisedData(
        batch=SupervisedBatch(Ragged(token_ids, lengths), Ragged(loss_mask, lengths)),
        row_ids=tuple(conversations[index].row_id for index in kept),
        dropped=dropped,
        longest=longest,
    )


def _encode_all(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> list[Encoded]:
    renderer = ChatRenderer(tokenizer)
    chats = [index for index, conversation in enumerate(conversations) if conversation.prompt is None]
    plain = [index for index, conversation in enumerate(conversations) if conversation.prompt is not None]
    texts: list[str] = []
    spans: list[tuple[Span, ...]] = []
    for index in chats:
        conversation = conversations[index]
        try:
            renderer.require("the conversation is made of chat messages,")
            rendered = find_assistant_spans(
                renderer, conversation.messages, tools=conversation.tools, num_context=conversation.num_context
            )
        except DataError as error:
            raise DataError(f"{conversation.place}: {error}") from error
        texts.append(rendered.text)
        spans.append(rendered.spans)
    encoded: dict[int, Encoded] = dict(zip(chats, encode_with_spans(tokenizer, texts, spans), strict=True))
    encoded.update(zip(plain, _encode_plain([conversations[index] for index in plain], tokenizer), strict=True))
    for index, conversation in enumerate(conversations):
        _, mask = encoded[index]
        mask[:1] = [False]  # nothing comes before the first token, so nothing predicts it
        if not any(mask):
            raise DataError(f"{conversation.place}: there is no assistant token to learn from")
    return [encoded[index] for index in range(len(conversations))]


def _encode_plain(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> list[Encoded]:
    """The prompt, then the completion and the end-of-sequence token; the latter two are learned."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    completions = encode_texts(tokenizer, [conversation.completion or "" for conversation in conversations])
    results: list[Encoded] = []
    for conversation, completion in zip(conversations, completions, strict=True):
        opening = encode_opening(tokenizer, conversation.prompt or "")
        answer = completion if completion[-1:] == end else completion + end
        results.append((opening + answer, [False] * len(opening) + [True] * len(answer)))
    return results
