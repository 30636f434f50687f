"""Objectives on the packed tokens that a backend's model gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import ObjectiveShare, PolicyObjective

if TYPE_CHECKING:
    from rlkit.types import Experience


def policy_share(
    objective: PolicyObjective | JointObjective,
    part: Experience,
    denominators: Denominators,
    log_probs: Tensor,
    entropy: Tensor,
    *values: Tensor,
) -> ObjectiveShare:
    """The share of `part`, from [T] of its response tokens in order; `values` for a joint objective only.

    The entropy keeps its gradient only if the objective wants it: through the whole vocabulary it is expensive.
    """
    if not objective.needs_entropy_gradient:
        entropy = entropy.detach()
    return share_of_packed(objective, part, denominators, log_probs, entropy, *values)


def share_of_packed(
    objective: Callable[..., ObjectiveShare], part: Experience, denominators: Denominators, *packed: Tensor
) -> ObjectiveShare:
    """`objective` on [T] of `part`'s response tokens in order, padded to [B, R]."""
    responses = part.rollouts.response_ids
    return objective(*(responses.with_values(values).padded(0.0) for values in packed), part, denominators)
