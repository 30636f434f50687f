"""What a rollout engine returns: prompts with sampled answers, as ragged tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlkit.types.conversation import Conversation
from rlkit.types.prompts import Prompt
from rlkit.types.ragged import Ragged

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["stop", "length", "abort"]
"""stop: the model ended its answer; length: cut at max_tokens; abort: cancelled."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """B sampled answers.

    prompt_ids        ragged int64, P tokens a row
    response_ids      ragged int64, R tokens a row, the end-of-sequence token included
    response_mask     ragged bool aligned with response_ids: True on tokens the policy sampled,
                      False on tokens put there by a tool or environment
    rollout_log_probs ragged float32 aligned with response_ids, nats; None when the engine gives none
    group_ids         [B] int64: rows that answer the same prompt share an id
    finish_reasons    B of FinishReason
    policy_version    version of the weights that answered (optimizer updates pushed so far)
    prompts           B prompts, row-aligned (rows of a group repeat theirs)
    conversations     what was said, row-aligned, when the rows are conversations of several turns; else None
    """

    prompt_ids: Ragged
    response_ids: Ragged
    response_mask: Ragged
    rollout_log_probs: Ragged | None
    group_ids: Tensor
    finish_reasons: tuple[FinishReason, ...]
    policy_version: int
    prompts: tuple[Prompt, ...]
    conversations: tuple[Conversation, ...] | None = None

    def __post_init__(self) -> None:
        rows = len(self.response_ids)
        sizes = {
            "prompt_ids": len(self.prompt_ids),
            "response_mask": len(self.response_mask),
            "group_ids": self.group_ids.shape[0],
            "finish_reasons": len(self.finish_reasons),
            "prompts": len(self.prompts),
            "conversations": rows if self.conversations is None else len(self.conversations),
        }
        for name, size in sizes.items():
            if size != rows:
                raise ValueError(f"response_ids has {rows} rows, but {name} has {size}")

    def __len__(self) -> int:
        return len(self.response_ids)

    @property
    def num_tokens(self) -> int:
        """Of prompts and responses."""
        return self.prompt_ids.num_tokens + self.response_ids.num_tokens

    def select(self, rows: Sequence[int]) -> Rollouts:
        """The given rows, in the given order."""
        import torch

        index = torch.as_tensor(rows, dtype=torch.int64)
        return Rollouts(
            prompt_ids=self.prompt_ids.select(index),
            response_ids=self.response_ids.select(index),
            response_mask=self.response_mask.select(index),
            rollout_log_probs=None if self.rollout_log_probs is None else self.rollout_log_probs.select(index),
            group_ids=self.group_ids[index],
            finish_reasons=tuple(self.finish_reasons[r] for r in index.tolist()),
            policy_version=self.policy_version,
            prompts=tuple(self.prompts[r] for r in index.tolist()),
            conversations=None if self.conversations is None else tuple(self.conversations[r] for r in index.tolist()),
        )

    @staticmethod
    def join(parts: Sequence[Rollouts]) -> Rollouts:
        """The rows of all `parts` (at least one), with group_ids counted anew from 0 in the order of appearance.

        Raises `ValueError` when they come from different weights, or when only some have rollout log-probs or
        conversations.
        """
        import torch

        versions = {part.policy_version for part in parts}
        if len(versions) > 1:
            raise ValueError(f"rollouts of policy versions {sorted(versions)} do not belong in one batch")
        with_log_probs = [part.rollout_log_probs for part in parts if part.rollout_log_probs is not None]
        if with_log_probs and len(with_log_probs) < len(parts):
            raise ValueError("only some of the rollouts have rollout log-probs")
        conversations = [part.conversations for part in parts if part.conversations is not None]
        if conversations and len(conversations) < len(parts):
            raise ValueError("only some of the rollouts are conversations")
        numbers: dict[tuple[int, int], int] = {}
        for index, part in enumerate(parts):
            for group in part.group_ids.tolist():
                numbers.setdefault((index, group), len(numbers))
        group_ids = [numbers[index, group] for index, part in enumerate(parts) for group in part.group_ids.tolist()]
        return Rollouts(
            prompt_ids=Ragged.concatenate(part.prompt_ids for part in parts),
            response_ids=Ragged.concatenate(part.response_ids for part in parts),
            response_mask=Ragged.concatenate(part.response_mask for part in parts),
            rollout_log_probs=Ragged.concatenate(with_log_probs) if with_log_probs else None,
            group_ids=torch.tensor(group_ids, dtype=torch.int64),
            finish_reasons=tuple(reason for part in parts for reason in part.finish_reasons),
            policy_version=parts[0].policy_version,
            prompts=tuple(prompt for part in parts for prompt in part.prompts),
            conversations=tuple(row for rows in conversations for row in rows) if conversations else None,
        )
