"""One parquet file for each step's rollouts: enough to read them, and to repeat the update without the engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rlkit.types import Experience, Ragged, Reward, Rollouts


def write_rollouts(
    folder: Path, step: int, experience: Experience, responses: Sequence[str], rewards: Sequence[Reward]
) -> Path:
    """Write `folder/step_000001.parquet`, one row for each answer; an existing file of the step is replaced.

    Columns: step, row_id, group_id, data_source, messages (JSON), question, reference (JSON), response, conversation (JSON), prompt_ids,
    response_ids, response_mask, loss_mask, rollout_log_probs, old_log_probs, ref_log_probs, advantages, returns,
    old_values, importance_weights, finish_reason, policy_version, score, parts (JSON), error. Fields that the run lacks are null.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rollouts = experience.rollouts
    rows = len(rollouts)
    columns: dict[str, pa.Array] = {
        "step": pa.array([step] * rows, pa.int64()),
        "row_id": pa.array([prompt.row_id for prompt in rollouts.prompts], pa.int64()),
        "group_id": pa.array(rollouts.group_ids.tolist(), pa.int64()),
        "data_source": pa.array([prompt.data_source for prompt in rollouts.prompts]),
        "messages": pa.array([json.dumps(list(map(dict, prompt.messages))) for prompt in rollouts.prompts]),
        "question": pa.array([prompt.question for prompt in rollouts.prompts]),
        "reference": pa.array([json.dumps(prompt.reference, default=str) for prompt in rollouts.prompts]),
        "response": pa.array(list(responses), pa.string()),
        "conversation": pa.array(_conversations(rollouts), pa.string()),
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
        "error": pa.array([reward.error for reward in rewards], pa.string()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:06d}.parquet"
    aside = folder / f".{path.name}"
    parquet.write_table(pa.table(columns), aside, compression="zstd")
    return aside.replace(path)


def _conversations(rollouts: Rollouts) -> list[str | None]:
    """The messages behind the prompt; None for answers of one turn."""
    if rollouts.conversations is None:
        return [None] * len(rollouts)
    return [json.dumps(list(map(dict, row.replies)), default=str) for row in rollouts.conversations]


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
