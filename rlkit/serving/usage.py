"""Tokens of a request and its answers."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.serving.answer_text import AnswerText
from rlkit.serving.responses import Usage


def usage_of(prompts: Sequence[Sequence[int]], answers: Sequence[AnswerText]) -> Usage:
    prompt_tokens, completion_tokens = sum(map(len, prompts)), sum(answer.num_tokens for answer in answers)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )
