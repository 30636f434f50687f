"""What splitting a batch by a token budget can come to at most, and what a run cannot be started with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rlkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rlkit.config.runs import PPOConfig


def most_micro_batches(rows: int, longest: int, budget: int) -> int:
    """Upper bound on the micro-batches of `rows` rows of at most `longest` tokens each.

    Rows are never cut, so a micro-batch holds whole rows only. First-fit-decreasing leaves no micro-batch but the last
    with fewer rows than fit when all are longest: one with fewer would still have room for the row that opened the next.
    """
    return math.ceil(rows / max(1, budget // longest))


def largest_micro_batch(rows: int, longest: int, budget: int) -> int:
    """Upper bound on the tokens of one micro-batch: a row beyond the budget goes alone, whatever its length."""
    return max(longest, min(budget, rows * longest))


def check_context(prompt_tokens: int, response_tokens: int, context_length: int, *, keys: tuple[str, str]) -> None:
    """Raises `ConfigError` when prompt and answer, named by their config keys, do not fit the model's context together."""
    if prompt_tokens + response_tokens > context_length:
        raise ConfigError(
            f"{keys[0]} {prompt_tokens} + {keys[1]} {response_tokens} exceed the model's context of {context_length} "
            "tokens; lower one of them"
        )


def check_ppo_context(config: PPOConfig, context_length: int) -> None:
    """`check_context` of the answers in training, and of those in validation where there is any."""
    for section in ("rollout", *(["validation"] if config.data.validation else [])):
        check_context(
            config.data.max_prompt_tokens,
            getattr(config, section).max_response_tokens,
            context_length,
            keys=("data.max_prompt_tokens", f"{section}.max_response_tokens"),
        )


def check_enough_prompts(prompts_per_step: int, prompts: int) -> None:
    """Raises `DataError`: one step never asks the same prompt twice, as one group of answers would look like two."""
    if not prompts:
        raise DataError("data.train has no rows: the data set is empty")
    if prompts_per_step > prompts:
        raise DataError(
            f"rollout.prompts_per_step = {prompts_per_step}, but data.train has {prompts} prompts; "
            f"set it to {prompts} or less, or raise rollout.samples_per_prompt instead"
        )
