"""Answers that could not be judged: they teach nothing, and nothing is measured against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs, Estimates, Estimator
from rlkit.types import Reward


def rows_with_verdict(rewards: Sequence[Reward], greedy_rewards: Sequence[Reward] | None, group_ids: Tensor) -> Tensor:
    """bool [B]: the answers that take part in learning.

    An answer does not when it has no verdict, when the greedy answer that it is measured against has none (`greedy_rewards`,
    one for each group), or when all others of its group have none: alone it would be compared with nothing.
    """
    takes_part = torch.tensor([reward.error is None for reward in rewards])
    if greedy_rewards is not None:
        takes_part &= torch.tensor([reward.error is None for reward in greedy_rewards])[group_ids]
    if bool(takes_part.all()):
        return takes_part
    groups = int(group_ids.max()) + 1
    asked = torch.bincount(group_ids, minlength=groups)
    left = torch.bincount(group_ids[takes_part], minlength=groups)
    lonely = (left == 1) & (asked > 1)
    return takes_part & ~lonely[group_ids]


def estimate_among(estimator: Estimator, inputs: AdvantageInputs, rows: Tensor) -> Estimates:
    """What `estimator` makes of the chosen rows (bool [B]) by themselves; zeros [B, R] for the others."""
    if bool(rows.all()):
        return estimator(inputs)
    advantages, returns = estimator(_select(inputs, rows))
    return _spread(advantages, rows), None if returns is None else _spread(returns, rows)


def _select(inputs: AdvantageInputs, rows: Tensor) -> AdvantageInputs:
    chosen: dict[str, Any] = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        chosen[field.name] = value[rows] if isinstance(value, Tensor) else value
    # Groups are counted from 0 without a gap; one may have gone as a whole.
    chosen["group_ids"] = torch.unique(chosen["group_ids"], return_inverse=True)[1]
    return AdvantageInputs(**chosen)


def _spread(values: Tensor, rows: Tensor) -> Tensor:
    whole = torch.zeros(len(rows), *values.shape[1:], dtype=values.dtype)
    whole[rows] = values
    return whole
