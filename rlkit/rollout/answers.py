"""What every rollout engine does around its decoding: refuse what cannot be answered, name the answers, lay them out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import torch

from rlkit.errors import ModelError
from rlkit.models.shape import read_config_json
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import PromptBatch, Ragged, Rollouts
from rlkit.types.rollouts import FinishReason


def end_token_ids(model: EngineModel) -> tuple[int, ...]:
    """Tokens that end an answer: the tokenizer's end of sequence and those of generation_config.json, else config.json.

    Chat models often have two. Raises `ModelError` for a damaged file.
    """
    config = read_config_json(model.folder)
    text_config = config.get("text_config")
    declared = (text_config if isinstance(text_config, dict) else config).get(
        "eos_token_id", config.get("eos_token_id")
    )
    path = model.folder / "generation_config.json"
    if path.is_file():
        try:
            declared = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id", declared)
        except (ValueError, AttributeError) as error:
            raise ModelError(f"'{path}' is not valid JSON: {error}") from error
    ids = [*(declared if isinstance(declared, list | tuple) else [declared]), model.tokenizer.eos_token_id]
    return tuple(sorted({token for token in ids if token is not None}))


def check_prompt(prompt_ids: Sequence[int], max_tokens: int, *, context_length: int, name: str) -> None:
    """Raises `ModelError` for a prompt without tokens, and for one that leaves no room for `max_tokens` of answer.

    name  of the prompt in the message: `the prompt of row 3`
    """
    if not prompt_ids:
        raise ModelError(f"{name} has no tokens; there is nothing to continue")
    if len(prompt_ids) + max_tokens > context_length:
        raise ModelError(
            f"{name} has {len(prompt_ids)} tokens; with {max_tokens} tokens of answer that is beyond the model's context "
            f"of {context_length}; shorten the prompt or the answer"
        )


def sample_numbers(prompts: PromptBatch, samples: int) -> list[list[int]]:
    """For each prompt the numbers of its answers: they name the random numbers together with seed and row.

    A row that is asked twice in a batch goes on with new samples instead of repeating them.
    """
    asked: Counter[int] = Counter()
    numbers: list[list[int]] = []
    for prompt in prompts.prompts:
        first = asked[prompt.row_id]
        numbers.append(list(range(first, first + samples)))
        asked[prompt.row_id] += samples
    return numbers


def lay_out(
    prompts: PromptBatch,
    samples: int,
    token_ids: Sequence[Sequence[int]],
    log_probs: Sequence[Sequence[float]] | None,
    finish_reasons: Sequence[FinishReason],
    *,
    policy_version: int,
) -> Rollouts:
    """Answers, `samples` of each prompt next to each other in the order of the prompts, all of whose tokens were sampled.

    log_probs is None from an engine that gives none. Raises `ModelError` for log-probs that are not finite.
    """
    rows = [row for row in range(len(prompts)) for _ in range(samples)]
    response_ids = Ragged.from_rows(token_ids, dtype=torch.int64)
    rollout_log_probs = None if log_probs is None else Ragged.from_rows(log_probs, dtype=torch.float32)
    if rollout_log_probs is not None and not bool(torch.isfinite(rollout_log_probs.values).all()):
        raise ModelError(
            f"the model answered with non-finite logits (weights of version {policy_version}); training may have diverged"
        )
    return Rollouts(
        prompt_ids=Ragged.from_rows(prompts.token_ids, dtype=torch.int64).select(rows),
        response_ids=response_ids,
        response_mask=response_ids.with_values(torch.ones_like(response_ids.values, dtype=torch.bool)),
        rollout_log_probs=rollout_log_probs,
        group_ids=torch.tensor(rows, dtype=torch.int64),
        finish_reasons=tuple(finish_reasons),
        policy_version=policy_version,
        prompts=tuple(prompts.prompts[row] for row in rows),
    )
