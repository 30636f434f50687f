from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.models.tokenizer import load_tokenizer
from rlkit.models.tokenizer_making import SPECIAL_TOKENS, make_tokenizer

CONVERSATION = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": "2+2="},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "3+3="},
    {"role": "assistant", "content": "6 a"},
]


@pytest.fixture(params=["char", "byte", "bpe"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each kind, saved and opened again."""
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"messages": CONVERSATION}) + "\n" + json.dumps({"text": "abc 0123456789+-="}) + "\n")
    options: dict[str, Any] = {"data": [data]} if request.param != "byte" else {}
    made = make_tokenizer(request.param, context_length=128, **options)
    made.save_pretrained(tmp_path / "saved")
    return load_tokenizer(tmp_path / "saved")


def test_text_survives_encoding_and_decoding(tokenizer: Any) -> None:
    for text in ("12 + 34 = 46", "a  b", " a", "2+2=\n4") if tokenizer.unk_token is None else ("12 + 34 = 46", " a  b"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_role_marker_is_one_token(tokenizer: Any) -> None:
    for token in SPECIAL_TOKENS:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.model_max_length == 128


def test_special_tokens_are_left_out_of_decoded_answers(tokenizer: Any) -> None:
    ids = tokenizer.encode("4<|end|>", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "4"


def test_the_template_renders_turns_and_the_generation_prompt(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(CONVERSATION[:2], tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>a<|end|><|user|>2+2=<|end|><|assistant|>"
    whole = tokenizer.apply_chat_template(CONVERSATION[:3], tokenize=False)
    assert whole == text + "4<|end|>"


def test_the_assistant_mask_covers_answers_and_their_end_token(tokenizer: Any) -> None:
    encoded = tokenizer.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    chosen = [token for token, kept in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if kept]
    assert tokenizer.decode(chosen) == "4<|end|>6 a<|end|>"


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="role must be system, user or assistant, got tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_char_has_one_token_for_each_character() -> None:
    tokenizer = make_tokenizer("char", alphabet="0123456789", context_length=8)
    assert len(tokenizer) == len(SPECIAL_TOKENS) + 1 + 10
    assert len(tokenizer.encode("20251", add_special_tokens=False)) == 5
    assert tokenizer.encode("z", add_special_tokens=False) == [tokenizer.unk_token_id]


def test_byte_encodes_any_text_with_256_tokens() -> None:
    tokenizer = make_tokenizer("byte", context_length=8)
    assert len(tokenizer) == len(SPECIAL_TOKENS) + 256
    ids = tokenizer.encode("naïve 数", add_special_tokens=False)
    assert len(ids) == len("naïve 数".encode())
    assert tokenizer.decode(ids) == "naïve 数"


def test_bpe_merges_what_is_frequent(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("banana " * 200)
    tokenizer = make_tokenizer("bpe", data=[file], vocab_size=300, context_length=8)
    assert len(tokenizer.encode("banana", add_special_tokens=False)) < 6


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("char", {}, "--tokenizer-data FILE or --alphabet"),
        ("bpe", {}, "--tokenizer-data FILE"),
        ("byte", {"alphabet": "abc"}, "belongs to a char tokenizer"),
        ("char", {"alphabet": "abc", "vocab_size": 99}, "--vocab-size belongs to bpe"),
        ("char", {"data": [Path("no-such.txt")]}, r"'no-such\.txt' does not exist"),
    ],
)
def test_impossible_requests_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_tokenizer(kind, context_length=8, **options)


def test_a_vocabulary_below_the_bytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("a")
    with pytest.raises(ModelError, match="at least 261"):
        make_tokenizer("bpe", data=[file], vocab_size=100, context_length=8)
