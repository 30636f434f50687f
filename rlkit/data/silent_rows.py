"""Rows that weigh nothing, for a rank that has fewer micro-batches than another: it has to compute along."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from rlkit.types import Experience, Prompt, Ragged, Rollouts, SupervisedBatch


def silent_rollouts(like: Rollouts) -> Rollouts:
    """One row of one prompt token and one response token, the fields of `like`."""
    return Rollouts(
        prompt_ids=_one_token(like.prompt_ids),
        response_ids=_one_token(like.response_ids),
        response_mask=_one_token(like.response_mask),
        rollout_log_probs=None if like.rollout_log_probs is None else _one_token(like.rollout_log_probs),
        group_ids=torch.zeros(1, dtype=torch.int64),
        finish_reasons=("stop",),
        policy_version=like.policy_version,
        prompts=(Prompt(row_id=0, text=""),),
    )


def silent_experience(like: Experience) -> Experience:
    """Its token is not in the loss mask, so its share of every loss and metric is zero, and so is its gradient."""
    values: dict[str, Any] = {"rollouts": silent_rollouts(like.rollouts)}
    for field in fields(like):
        if field.name != "rollouts":
            value = getattr(like, field.name)
            values[field.name] = None if value is None else _one_token(value)
    return Experience(**values)


def silent_conversation(like: SupervisedBatch) -> SupervisedBatch:
    """One token, not in the loss mask."""
    return SupervisedBatch(_one_token(like.token_ids), _one_token(like.loss_mask))


def _one_token(like: Ragged) -> Ragged:
    values = torch.zeros(1, *like.values.shape[1:], dtype=like.values.dtype, device=like.values.device)
    return Ragged(values, torch.ones(1, dtype=torch.int64))
