"""One parquet file for each step's rollouts: enough to read them, and to repeat the update without the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlkit.types import Conversation, Experience, Ragged, Reward, Rollouts

Value = TypeVar("Value")
FLOATS_OF_TOKENS = (
    "rollout_log_probs",
    "old_log_probs",
    "ref_log_probs",
    "advantages",
    "returns",
    "old_values",
    "importance_weights",
)


@dataclass(frozen=True)
class GreedyAnswers:
    """What the greedy answers of a step add to its update, by group id: the score, how many tokens were sampled, and why
    there is no verdict, if there is none."""

    scores: Sequence[float]
    tokens: Sequence[int]
    errors: Sequence[str | None]


def rollouts_path(folder: Path, step: int) -> Path:
    """Where the rollouts of `step` are."""
    return folder / f"step_{step:06d}.parquet"


def write_rollouts(
    folder: Path,
    step: int,
    experience: Experience,
    responses: Sequence[str],
    rewards: Sequence[Reward],
    greedy: GreedyAnswers | None = None,
) -> Path:
    """Write `folder/step_000001.parquet`, one row for each answer; an existing file of the step is replaced.

    Columns: step, row_id, group_id, data_source, messages (JSON), question, reference (JSON), response, conversation (JSON),
    conversation_facts (JSON), prompt_ids, response_ids, response_mask, loss_mask, rollout_log_probs, old_log_probs,
    ref_log_probs, advantages, returns, old_values, importance_weights, finish_reason, policy_version, score, parts (JSON),
    error, turn_scores, greedy_score, greedy_tokens, greedy_error. Fields that the run lacks are null. The scores are the
    verdicts, before any shaping. Half of a surrogate pair in a text becomes a question mark.
    `rlkit.tracking.stored_rollouts` reads it back.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rollouts = experience.rollouts
    rows = len(rollouts)
    columns: dict[str, pa.Array] = {
        "step": pa.array([step] * rows, pa.int64()),
        "row_id": pa.array([prompt.row_id for prompt in rollouts.prompts], pa.int64()),
        "group_id": pa.array(rollouts.group_ids.tolist(), pa.int64()),
        "data_source": _texts([prompt.data_source for prompt in rollouts.prompts]),
        "messages": pa.array([json.dumps(list(map(dict, prompt.messages))) for prompt in rollouts.prompts]),
        "question": _texts([prompt.question for prompt in rollouts.prompts]),
        "reference": pa.array([json.dumps(prompt.reference, default=str) for prompt in rollouts.prompts]),
        "response": _texts(responses),
        "conversation": pa.array(_conversations(rollouts), pa.string()),
        "conversation_facts": pa.array(_conversation_facts(rollouts), pa.string()),
        "prompt_ids": _lists(rollouts.prompt_ids, pa.int32()),
        "response_ids": _lists(rollouts.response_ids, pa.int32()),
        "response_mask": _lists(rollouts.response_mask, pa.bool_()),
        "loss_mask": _lists(experience.loss_mask, pa.bool_()),
        "rollout_log_probs": _optional(rollouts.rollout_log_probs, rows),
        "old_log_probs": _lists(experience.old_log_probs, pa.float32()),
        "ref_log_probs": _optional(experience.ref_log_probs, rows),
        "advantages": _lists(experience.advantages, pa.float32()),
        "returns": _optional(experience.returns, rows),
        "old_values": _optional(experience.old_values, rows),
        "importance_weights": _optional(experience.importance_weights, rows),
        "finish_reason": pa.array(list(rollouts.finish_reasons)),
        "policy_version": pa.array([rollouts.policy_version] * rows, pa.int64()),
        "score": pa.array([reward.score for reward in rewards], pa.float64()),
        "parts": pa.array([json.dumps(dict(reward.parts)) for reward in rewards]),
        "error": _texts([reward.error for reward in rewards]),
        "turn_scores": pa.array([reward.turn_scores or None for reward in rewards], pa.list_(pa.float64())),
        "greedy_score": pa.array(_of_groups(rollouts, greedy.scores if greedy else None), pa.float64()),
        "greedy_tokens": pa.array(_of_groups(rollouts, greedy.tokens if greedy else None), pa.int32()),
        "greedy_error": _texts(_of_groups(rollouts, greedy.errors if greedy else None)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = rollouts_path(folder, step)
    aside = folder / f".{path.name}"
    # Numbers of which no two are equal: by bytes of equal weight they take a quarter less than as a dictionary of them all.
    spread = [f"{name}.list.element" for name in FLOATS_OF_TOKENS]
    parquet.write_table(
        pa.table(columns),
        aside,
        compression="zstd",
        use_dictionary=[name for name in columns if name not in FLOATS_OF_TOKENS],
        column_encoding=dict.fromkeys(spread, "BYTE_STREAM_SPLIT"),
    )
    return aside.replace(path)


def _conversations(rollouts: Rollouts) -> list[str | None]:
    """The messages behind the prompt; None for answers of one turn."""
    if rollouts.conversations is None:
        return [None] * len(rollouts)
    return [json.dumps(list(map(dict, row.replies)), default=str) for row in rollouts.conversations]


def _conversation_facts(rollouts: Rollouts) -> list[str | None]:
    """What is known of a conversation besides its messages; None for answers of one turn."""
    if rollouts.conversations is None:
        return [None] * len(rollouts)
    return [json.dumps(conversation_facts(row)) for row in rollouts.conversations]


def conversation_facts(conversation: Conversation) -> Mapping[str, Any]:
    """The fields of `conversation` that are no messages, by name."""
    return {
        "end": conversation.end,
        "turn_rewards": list(conversation.turn_rewards),
        "tool_calls": conversation.tool_calls,
        "tool_errors": conversation.tool_errors,
        "cut_results": conversation.cut_results,
    }


def _of_groups(rollouts: Rollouts, values: Sequence[Value] | None) -> list[Value | None]:
    """Each row's value, of those by group id."""
    if values is None:
        return [None] * len(rollouts)
    return [values[group] for group in rollouts.group_ids.tolist()]


def _texts(values: Sequence[str | None]) -> object:
    """Half of a surrogate pair, as a badly cut answer may hold, has no UTF-8."""
    import pyarrow as pa

    encoded = [None if value is None else value.encode("utf-8", errors="replace") for value in values]
    return pa.array(encoded, pa.binary()).cast(pa.string())


def _lists(ragged: Ragged, kind: object) -> object:
    import pyarrow as pa

    offsets = pa.array(ragged.offsets.tolist(), pa.int64())
    values = pa.array(ragged.values.cpu().numpy()).cast(kind)
    return pa.LargeListArray.from_arrays(offsets, values)


def _optional(ragged: Ragged | None, rows: int) -> object:
    import pyarrow as pa

    if ragged is None:
        return pa.nulls(rows, pa.large_list(pa.float32()))
    return _lists(ragged, pa.float32())
