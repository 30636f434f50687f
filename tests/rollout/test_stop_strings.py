from __future__ import annotations

import pytest

from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.rollout.stop_strings import StopStrings


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("byte", context_length=64)


def first_stop(tokenizer, stop, text):
    """The part of `text` up to the token that completes a stop string; all of it when none does."""
    strings = StopStrings(stop, tokenizer)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for count in range(1, len(tokens) + 1):
        if strings.end(tokens[:count]):
            return tokenizer.decode(tokens[:count], skip_special_tokens=False)
    return text


@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        (("\n\n",), "a\nb\n\nc", "a\nb\n\n"),
        (("zz", "lo"), "hello zz", "hello"),
        (("数数",), "数,数数数", "数,数数"),
        (("<|user|>",), "ab<|user|>cd", "ab<|user|>"),
        (("x",), "abc", "abc"),
        (("ab",), "x" * 40 + "ab" + "y", "x" * 40 + "ab"),
    ],
)
def test_the_token_that_completes_a_stop_string_is_the_last(tokenizer, stop, text, expected):
    assert first_stop(tokenizer, stop, text) == expected
