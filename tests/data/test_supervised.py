from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.data.chat import encode_conversation
from rlkit.data.conversations import Conversation, load_conversations
from rlkit.data.supervised import encode_conversations
from rlkit.errors import DataError

Make = Callable[..., Any]


def chat(row_id: int, *texts: str, **fields: Any) -> Conversation:
    messages = tuple({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts))
    return Conversation(row_id, f"rows.jsonl, line {row_id + 1}", messages, **fields)


def test_many_at_once_equal_one_by_one(make_tokenizer: Make, templates: dict[str, str]) -> None:
    rows = [chat(0, "hi", "hello"), chat(1, "a", "b", "c", "d"), chat(2, "x", "Grüße", "y")]
    for name in ("chatml", "chatml_marked", "llama3", "thinking"):
        tokenizer = make_tokenizer(templates[name])
        data = encode_conversations(rows, tokenizer, max_length=1000, overlong="refuse")
        together = [
            (ids.tolist(), mask.tolist())
            for ids, mask in zip(data.batch.token_ids.rows(), data.batch.loss_mask.rows(), strict=True)
        ]
        assert together == [encode_conversation(row.messages, tokenizer) for row in rows]
        assert data.lengths == [len(ids) for ids, _ in together]


def test_a_batch_holds_the_chosen_rows(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    data = encode_conversations([chat(0, "a", "b"), chat(1, "c", "dd")], tokenizer, max_length=99, overlong="refuse")
    batch = data.select([1, 0])
    first = next(batch.token_ids.rows())
    assert "dd<|im_end|>" in tokenizer.decode(first)
    assert len(batch) == 2


def test_plain_rows_learn_the_completion_and_one_end_of_sequence(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer(None)
    rows = [
        Conversation(0, "x", prompt="The sky is", completion=" blue"),
        Conversation(1, "x", prompt="The sky is", completion=" blue<|im_end|>"),
    ]
    data = encode_conversations(rows, tokenizer, max_length=99, overlong="refuse")
    for ids, mask in zip(data.batch.token_ids.rows(), data.batch.loss_mask.rows(), strict=True):
        assert tokenizer.decode(ids[mask]) == " blue<|im_end|>"
        assert tokenizer.decode(ids[~mask]) == "The sky is"


def test_context_turns_are_read_only(make_tokenizer: Make, templates: dict[str, str]) -> None:
    for name in ("chatml", "chatml_marked"):
        tokenizer = make_tokenizer(templates[name])
        data = encode_conversations(
            [chat(0, "a", "b", "c", "d", num_context=3)], tokenizer, max_length=99, overlong="refuse"
        )
        learned = data.batch.token_ids.values[data.batch.loss_mask.values]
        assert tokenizer.decode(learned) == "d<|im_end|>"


def test_the_first_token_is_never_learned(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer(None)
    data = encode_conversations(
        [Conversation(0, "x", prompt="", completion="blue sky")], tokenizer, max_length=99, overlong="refuse"
    )
    assert data.batch.loss_mask.values.tolist()[0] is False
    assert data.batch.num_loss_tokens == data.lengths[0] - 1


def test_overlong_conversations_are_refused_with_numbers_or_dropped(
    make_tokenizer: Make, templates: dict[str, str]
) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    rows = [chat(0, "a", "b"), chat(1, "a", "word " * 30), chat(2, "a", "c")]
    with pytest.raises(DataError, match=r'^1 of 3 conversations .*data.max_length = 30 .*data.overlong = "drop"$'):
        encode_conversations(rows, tokenizer, max_length=30, overlong="refuse")
    data = encode_conversations(rows, tokenizer, max_length=30, overlong="drop")
    assert (data.row_ids, data.dropped) == ((0, 2), 1)
    assert data.longest > 30
    with pytest.raises(DataError, match="no conversation is left"):
        encode_conversations(rows, tokenizer, max_length=3, overlong="drop")


def test_a_row_without_anything_to_learn_is_named(make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    with pytest.raises(DataError, match=r"^rows.jsonl, line 2: there is no assistant message"):
        encode_conversations([chat(0, "a", "b"), chat(1, "a")], tokenizer, max_length=99, overlong="drop")
    no_blocks = make_tokenizer("{% if false %}{% generation %}{% endgeneration %}{% endif %}{{ messages[0].content }}")
    with pytest.raises(DataError, match=r"^rows.jsonl, line 1: there is no assistant token"):
        encode_conversations([chat(0, "a", "b")], no_blocks, max_length=99, overlong="drop")
    with pytest.raises(DataError, match=r"^rows.jsonl, line 1: .*no chat template"):
        encode_conversations([chat(0, "a", "b")], make_tokenizer(None), max_length=99, overlong="drop")


def test_gsm8k_learns_the_answers_only(shared_data: Path, make_tokenizer: Make, templates: dict[str, str]) -> None:
    tokenizer = make_tokenizer(templates["chatml"])
    rows = load_conversations([str(shared_data / "gsm8k_train.jsonl")], limit=300)
    data = encode_conversations(rows, tokenizer, max_length=4096, overlong="refuse")
    for row, ids, mask in zip(rows, data.batch.token_ids.rows(), data.batch.loss_mask.rows(), strict=True):
        assert tokenizer.decode(ids[mask]) == row.messages[1]["content"] + "<|im_end|>"
