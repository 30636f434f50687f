from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rlkit.serving.answer_text import AnswerText, Piece
from rlkit.serving.errors import APIError
from rlkit.types import CompletionChunk, FinishReason


def chunks_of(token_ids: Sequence[int], size: int, reason: FinishReason = "length") -> list[CompletionChunk]:
    """The tokens in chunks, with log-probs -1, -2, -3, ..."""
    chunks = []
    for start in range(0, len(token_ids), size):
        part = tuple(token_ids[start : start + size])
        last = start + size >= len(token_ids)
        log_probs = tuple(-1.0 - start - offset for offset in range(len(part)))
        chunks.append(CompletionChunk("r", part, log_probs, (), reason if last else None, 0))
    return chunks


def pieces(answer: AnswerText, chunks: Sequence[CompletionChunk]) -> list[Piece]:
    out = []
    for chunk in chunks:
        out.append(answer.add(chunk))
        if answer.finished:
            break
    return out


def text_of(parts: Sequence[Piece]) -> str:
    return "".join(part.text for part in parts)


@pytest.mark.parametrize("size", [1, 2, 50])
@pytest.mark.parametrize("with_log_probs", [False, True])
def test_text_ends_before_the_stop_string(tokenizer: Any, size: int, with_log_probs: bool) -> None:
    token_ids = tokenizer.encode("one two STOP more", add_special_tokens=False)
    answer = AnswerText(tokenizer, ["STOP"], with_log_probs=with_log_probs)
    parts = pieces(answer, chunks_of(token_ids, size))
    assert text_of(parts) == "one two "
    assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + ["stop"]
    assert not any("S" in part.text for part in parts)


def test_an_answer_that_ends_in_the_beginning_of_a_stop_string_keeps_it(tokenizer: Any) -> None:
    parts = pieces(AnswerText(tokenizer, ["STOP"]), chunks_of(tokenizer.encode("a ST", add_special_tokens=False), 1))
    assert text_of(parts) == "a ST"
    assert parts[-1].finish_reason == "length"


@pytest.mark.parametrize("size", [1, 50])
def test_entries_are_the_tokens_of_the_text_with_their_places(tokenizer: Any, size: int) -> None:
    token_ids = [*tokenizer.encode("aé", add_special_tokens=False), tokenizer.eos_token_id]
    special = frozenset([tokenizer.eos_token_id])
    answer = AnswerText(tokenizer, (), with_log_probs=True, special_ids=special)
    parts = pieces(answer, chunks_of(token_ids, size, "stop"))
    entries = [entry for part in parts for entry in part.entries]
    assert [(entry.token_id, entry.log_prob, entry.start) for entry in entries] == [
        (token_ids[0], -1.0, 0),
        (token_ids[1], -2.0, 1),
        (token_ids[2], -3.0, 1),
    ]
    assert answer.num_tokens == 4


def test_entries_of_a_stop_string_are_never_shown(tokenizer: Any) -> None:
    token_ids = tokenizer.encode("abSTOP", add_special_tokens=False)
    parts = pieces(AnswerText(tokenizer, ["STOP"], with_log_probs=True), chunks_of(token_ids, 1))
    assert [entry.token_id for part in parts for entry in part.entries] == list(token_ids[:2])
    assert [token for part in parts for token in part.token_ids] == list(token_ids)


def test_every_token_has_an_entry_at_once_when_asked_for(tokenizer: Any) -> None:
    token_ids = [*tokenizer.encode("aSTOP", add_special_tokens=False), tokenizer.eos_token_id]
    answer = AnswerText(
        tokenizer, ["STOP"], with_log_probs=True, every_token=True, special_ids=frozenset([tokenizer.eos_token_id])
    )
    (part,) = pieces(answer, chunks_of(token_ids, 50))
    assert [entry.token_id for entry in part.entries] == token_ids
    assert part.text == "a"


def test_an_engine_without_log_probs_cannot_give_any(tokenizer: Any) -> None:
    with pytest.raises(APIError, match="gives no log-probs"):
        AnswerText(tokenizer, (), with_log_probs=True).add(CompletionChunk("r", (5,), (), (), None, 0))
