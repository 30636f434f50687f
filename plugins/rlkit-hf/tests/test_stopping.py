from __future__ import annotations

from typing import Any

import pytest
from rlkit_hf.stopping import StopStrings

from rlkit.models.tokenizer_making import make_tokenizer


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer("byte", context_length=64)


def first_stop(tokenizer: Any, stop: tuple[str, ...], text: str) -> str:
    """The part of `text` up to the token that completes a stop string; all of it when none does."""
    strings = StopStrings(stop, tokenizer)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for count in range(1, len(tokens) + 1):
        if strings.end(tokens[:count]):
            return tokenizer.decode(tokens[:count], skip_special_tokens=False)
    return text


def test_the_completing_token_is_the_last(tokenizer: Any) -> None:
    assert first_stop(tokenizer, ("\n\n",), "a\nb\n\nc") == "a\nb\n\n"


def test_the_first_of_several_decides(tokenizer: Any) -> None:
    assert first_stop(tokenizer, ("zz", "lo"), "hello zz") == "hello"


def test_characters_of_several_tokens_are_found(tokenizer: Any) -> None:
    assert first_stop(tokenizer, ("数数",), "数,数数数") == "数,数数"


def test_special_tokens_may_be_stop_strings(tokenizer: Any) -> None:
    assert first_stop(tokenizer, ("<|user|>",), "ab<|user|>cd") == "ab<|user|>"


def test_long_answers_before_the_stop_do_not_matter(tokenizer: Any) -> None:
    assert first_stop(tokenizer, ("END",), "x" * 500 + "END.") == "x" * 500 + "END"
