from __future__ import annotations

import math
from typing import Any

from rlkit.serving.answer_text import TokenEntry
from rlkit.serving.token_views import SMALLEST_LOG_PROB, TokenViews


def test_special_tokens_are_known(tokenizer: Any) -> None:
    assert {tokenizer.eos_token_id, tokenizer.pad_token_id} <= TokenViews(tokenizer).special_ids


def test_infinity_is_no_json(tokenizer: Any) -> None:
    entry = TokenEntry(70, -math.inf, ((71, -0.5), (72, -math.inf)), 0)
    (shown,) = TokenViews(tokenizer).chat([entry], with_ids=False).content
    assert shown.logprob == shown.top_logprobs[1].logprob == SMALLEST_LOG_PROB
    assert TokenViews(tokenizer).completion([entry], with_alternatives=False).token_logprobs == [SMALLEST_LOG_PROB]


def test_of_two_alternatives_with_one_text_the_likelier_counts(tokenizer: Any) -> None:
    first, second = tokenizer.encode("é", add_special_tokens=False)  # both are half a character
    entry = TokenEntry(70, -1.0, ((first, -0.5), (second, -2.0)), 0)
    shown = TokenViews(tokenizer).completion([entry], with_alternatives=True).top_logprobs
    assert shown == [{"\ufffd": -0.5}]
