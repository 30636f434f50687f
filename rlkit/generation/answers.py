"""From an engine's answers to rows of a completions file."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.generation.completions_file import Completion, CompletionRow
from rlkit.types import Rollouts


def completion_rows(
    rollouts: Rollouts, texts: Sequence[str], *, samples: int, model: str = "", log_probs: bool = False
) -> list[CompletionRow]:
    """One row for each prompt, its `samples` answers in order; `texts` are the decoded answers, row-aligned.

    log_probs adds each token's id and, when the engine gave them, their log-probs; in a conversation also which tokens were
    sampled, the log-probs of the others being 0.
    """
    tokens = [tuple(row.tolist()) for row in rollouts.response_ids.rows()]
    given = rollouts.rollout_log_probs if log_probs else None
    token_log_probs = None if given is None else [tuple(row.tolist()) for row in given.rows()]
    with_mask = log_probs and rollouts.conversations is not None
    masks = [tuple(row.tolist()) for row in rollouts.response_mask.rows()] if with_mask else None
    rows: list[CompletionRow] = []
    for start in range(0, len(rollouts), samples):
        completions = tuple(
            Completion(
                text=texts[index],
                finish_reason=rollouts.finish_reasons[index],
                num_tokens=len(tokens[index]),
                token_ids=tokens[index] if log_probs else None,
                log_probs=None if token_log_probs is None else token_log_probs[index],
                response_mask=None if masks is None else masks[index],
                conversation=None if rollouts.conversations is None else rollouts.conversations[index],
            )
            for index in range(start, start + samples)
        )
        rows.append(CompletionRow(rollouts.prompts[start], completions, model))
    return rows
