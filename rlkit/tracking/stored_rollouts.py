"""Rollouts files read back: a step's answers and verdicts, as they went into its update."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlkit.errors import DataError
from rlkit.plugin.references import describe_error
from rlkit.tracking.rollouts_file import GreedyAnswers, rollouts_path
from rlkit.types import Conversation, Prompt, Ragged, Reward, Rollouts

TOKEN_COLUMNS = (
    "old_log_probs",
    "ref_log_probs",
    "old_values",
    "advantages",
    "returns",
    "importance_weights",
    "loss_mask",
)
"""What the step computed for each response token, where the run has it."""
LATER_COLUMNS = ("turn_scores", "conversation_facts", "greedy_score", "greedy_tokens", "greedy_error")
"""Those that files of older versions lack."""


@dataclass(frozen=True, eq=False)
class StoredStep:
    """One step's rollouts file.

    rewards  the verdicts, before any shaping
    greedy   what each prompt's greedy answer came to; None: the step had none
    tokens   the columns of TOKEN_COLUMNS that are not null, aligned with the responses
    """

    step: int
    rollouts: Rollouts
    responses: tuple[str, ...]
    rewards: tuple[Reward, ...]
    greedy: GreedyAnswers | None
    tokens: Mapping[str, Ragged]


def read_rollouts(folder: Path, step: int) -> StoredStep:
    """Undo `write_rollouts`. Images and other columns of the prompts are not in the file.

    Raises `DataError` for a file that is missing, damaged, or too old to hold what its step was learned from.
    """
    path = rollouts_path(folder, step)
    if not path.is_file():
        raise DataError(f"{path} does not exist: the run kept no rollouts of step {step} (trainer.save_rollouts)")
    columns = _read_columns(path)
    _check_age(path, columns)
    try:
        return _from_columns(step, columns)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no rollouts file of this version of rlkit ({describe_error(error)})") from error


def _read_columns(path: Path) -> dict[str, Any]:
    """Arrow columns by name, each of one chunk."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({describe_error(error)})") from error
    return {name: table[name].combine_chunks() for name in table.column_names}


def _check_age(path: Path, columns: Mapping[str, Any]) -> None:
    """Raises `DataError` where columns that an older version did not write are needed to understand the others."""
    missing = [name for name in LATER_COLUMNS if name not in columns]
    talked = "conversation" in columns and columns["conversation"].null_count < len(columns["conversation"])
    if missing and talked:
        raise DataError(
            f"{path} was written by an older rlkit: it lacks {', '.join(missing)}, which conversations of several turns "
            "are learned from"
        )


def _from_columns(step: int, columns: Mapping[str, Any]) -> StoredStep:
    rows = len(columns["response"])
    versions = columns["policy_version"].to_pylist()
    rollouts = Rollouts(
        prompt_ids=_ragged(columns["prompt_ids"], torch.int64),
        response_ids=_ragged(columns["response_ids"], torch.int64),
        response_mask=_ragged(columns["response_mask"], torch.bool),
        rollout_log_probs=_optional(columns["rollout_log_probs"]),
        group_ids=torch.tensor(columns["group_id"].to_pylist(), dtype=torch.int64),
        finish_reasons=tuple(columns["finish_reason"].to_pylist()),
        policy_version=int(versions[0]),
        prompts=_prompts(columns),
        conversations=_conversations(columns),
    )
    tokens = {
        name: _ragged(columns[name], torch.bool if name == "loss_mask" else torch.float32)
        for name in TOKEN_COLUMNS
        if columns[name].null_count == 0
    }
    turn_scores = columns["turn_scores"].to_pylist() if "turn_scores" in columns else [None] * rows
    rewards = tuple(
        Reward(score, json.loads(parts), error, tuple(turns or ()))
        for score, parts, error, turns in zip(
            columns["score"].to_pylist(),
            columns["parts"].to_pylist(),
            columns["error"].to_pylist(),
            turn_scores,
            strict=True,
        )
    )
    return StoredStep(
        step, rollouts, tuple(columns["response"].to_pylist()), rewards, _greedy(columns, rollouts.group_ids), tokens
    )


def _prompts(columns: Mapping[str, Any]) -> tuple[Prompt, ...]:
    names = ("row_id", "messages", "question", "reference", "data_source")
    prompts = []
    for row_id, messages, question, reference, source in zip(
        *(columns[name].to_pylist() for name in names), strict=True
    ):
        said = tuple(json.loads(messages))
        prompts.append(Prompt(row_id, said, None if said else question, json.loads(reference), source))
    return tuple(prompts)


def _conversations(columns: Mapping[str, Any]) -> tuple[Conversation, ...] | None:
    if columns["conversation"].null_count:
        return None
    found = []
    for messages, replies, facts in zip(
        columns["messages"].to_pylist(),
        columns["conversation"].to_pylist(),
        columns["conversation_facts"].to_pylist(),
        strict=True,
    ):
        known = json.loads(facts)
        known["turn_rewards"] = tuple(known["turn_rewards"])
        found.append(Conversation(tuple(json.loads(messages)), tuple(json.loads(replies)), **known))
    return tuple(found)


def _greedy(columns: Mapping[str, Any], group_ids: Tensor) -> GreedyAnswers | None:
    """Each group's, from its first row."""
    if "greedy_score" not in columns or columns["greedy_score"].null_count:
        return None
    first: dict[int, int] = {}
    for row, group in enumerate(group_ids.tolist()):
        first.setdefault(group, row)
    rows: Sequence[int] = [first[group] for group in sorted(first)]
    of_rows = (columns[name].to_pylist() for name in ("greedy_score", "greedy_tokens", "greedy_error"))
    return GreedyAnswers(*([values[row] for row in rows] for values in of_rows))


def _ragged(column: Any, dtype: torch.dtype) -> Ragged:
    import pyarrow as pa

    offsets = torch.tensor(column.offsets.to_pylist(), dtype=torch.int64)
    flat = column.flatten()
    values = flat.cast(pa.uint8()) if dtype is torch.bool else flat
    return Ragged(torch.tensor(values.to_numpy(zero_copy_only=False), dtype=dtype), offsets.diff())


def _optional(column: Any) -> Ragged | None:
    return None if column.null_count else _ragged(column, torch.float32)
