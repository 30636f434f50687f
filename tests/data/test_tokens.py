from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.data.tokens import encode_opening, encode_texts, encode_with_spans
from rlkit.errors import DataError


def test_texts_are_encoded_alone_and_in_order(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(None)
    texts = ["hello", "", "you", "hello"]
    assert encode_texts(tokenizer, texts) == [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def test_a_tokenizer_that_is_not_callable_will_do(make_tokenizer: Callable[..., Any]) -> None:
    class Plain:
        eos_token_id = 0

        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            return [1, *map(ord, text), 0] if add_special_tokens else list(map(ord, text))

        def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
            return "".join(map(chr, ids))

    assert encode_texts(Plain(), ["ab", "c"]) == [[97, 98], [99]]  # type: ignore[arg-type]
    assert encode_opening(Plain(), "ab") == [1, 97, 98]  # type: ignore[arg-type]
    assert encode_with_spans(Plain(), ["abc"], [[(1, 2)]]) == [([97, 98, 99], [False, True, False])]  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_learned_tokens_are_exactly_the_text_of_the_spans(
    make_tokenizer: Callable[..., Any], text: str, cuts: list[int]
) -> None:
    tokenizer = make_tokenizer(None)
    borders = sorted(min(cut, len(text)) for cut in cuts)
    spans = list(zip(borders[::2], borders[1::2], strict=False))
    ids, mask = encode_with_spans(tokenizer, [text], [spans])[0]
    learned = [token for token, inside in zip(ids, mask, strict=True) if inside]
    expected = "".join(text[start:end] for start, end in spans)
    assert tokenizer.decode(learned, skip_special_tokens=False, clean_up_tokenization_spaces=False) == expected
    assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text


def test_a_tokenizer_that_opens_texts_with_a_space_is_not_fed_pieces(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(None, kind="sentencepiece")
    text = "[INST] Hello you [/INST] I am fine</s>"
    ids, mask = encode_with_spans(tokenizer, [text], [[(text.index(" I am"), len(text))]])[0]
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    learned = [token for token, inside in zip(ids, mask, strict=True) if inside]
    assert tokenizer.decode(learned) == "I am fine</s>"


def test_such_a_tokenizer_without_offsets_is_refused(make_tokenizer: Callable[..., Any]) -> None:
    class Slow:
        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            return [32, *map(ord, text)]

        def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
            return "".join(map(chr, ids))

    with pytest.raises(DataError, match="fast version"):
        encode_with_spans(Slow(), ["abc"], [[(0, 1)]])  # type: ignore[arg-type]
