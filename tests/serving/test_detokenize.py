from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.serving.detokenize import REPLACEMENT, IncrementalText

TEXTS = st.text(alphabet=st.sampled_from("ab ß€😀👩‍👩‍👧\n<é漢"), max_size=40)


@cache
def byte_tokenizer() -> Any:
    return make_tokenizer("byte", context_length=100)


@cache
def sentencepiece_like() -> Any:
    """Words that begin with a space, which the decoder drops at the beginning, and single bytes for the rest."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁ab"]
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")


def pieces_of(tokenizer: Any, token_ids: list[int]) -> list[str]:
    text = IncrementalText(tokenizer)
    return [*(text.add([token]) for token in token_ids), text.finish()]


@given(TEXTS)
@pytest.mark.parametrize("tokenizer", [byte_tokenizer, sentencepiece_like], ids=lambda made: made.__name__)
def test_the_pieces_are_the_text_and_no_piece_has_half_a_character(tokenizer: Any, text: str) -> None:
    token_ids = tokenizer().encode(text, add_special_tokens=False)
    pieces = pieces_of(tokenizer(), token_ids)
    assert "".join(pieces) == tokenizer().decode(token_ids, skip_special_tokens=True)
    assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.lists(st.integers(0, 260), max_size=60))
def test_bytes_that_are_no_text_decode_as_they_do_at_once(token_ids: list[int]) -> None:
    tokenizer = byte_tokenizer()
    assert "".join(pieces_of(tokenizer, token_ids)) == tokenizer.decode(token_ids, skip_special_tokens=True)


@given(TEXTS, st.lists(st.integers(1, 7), min_size=1))
def test_how_many_tokens_come_at_once_is_of_no_account(text: str, sizes: list[int]) -> None:
    tokenizer = byte_tokenizer()
    token_ids, grown, pieces = tokenizer.encode(text, add_special_tokens=False), IncrementalText(tokenizer), []
    for size in sizes:
        pieces.append(grown.add(token_ids[:size]))
        token_ids = token_ids[size:]
    pieces += [grown.add(token_ids), grown.finish()]
    assert "".join(pieces) == text


def test_a_character_comes_with_its_last_byte() -> None:
    tokenizer = byte_tokenizer()
    assert pieces_of(tokenizer, tokenizer.encode("a😀", add_special_tokens=False)) == ["a", "", "", "", "😀", ""]


def test_half_a_character_at_the_end_is_replaced() -> None:
    tokenizer = byte_tokenizer()
    token_ids = tokenizer.encode("a€", add_special_tokens=False)[:-1]
    assert pieces_of(tokenizer, token_ids) == ["a", "", "", REPLACEMENT]


def test_special_tokens_are_no_text_and_end_no_context() -> None:
    tokenizer = sentencepiece_like()
    words = tokenizer.encode("a ab a b", add_special_tokens=False)
    token_ids = [token for word in words for token in (word, tokenizer.bos_token_id, tokenizer.bos_token_id)] * 4
    assert "".join(pieces_of(tokenizer, token_ids)) == tokenizer.decode(token_ids, skip_special_tokens=True)


def test_only_the_newest_tokens_are_decoded_again() -> None:
    tokenizer = byte_tokenizer()
    longest = 0

    class Watched:
        def decode(self, token_ids: list[int], **options: Any) -> str:
            nonlocal longest
            longest = max(longest, len(token_ids))
            return tokenizer.decode(token_ids, **options)

    text = IncrementalText(Watched())  # type: ignore[arg-type]
    for token in tokenizer.encode("word " * 200, add_special_tokens=False):
        text.add([token])
    assert longest < 25
