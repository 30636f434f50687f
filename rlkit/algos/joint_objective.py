"""What is minimised when actor and critic are one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import ObjectiveShare, PolicyObjective, ValueObjective

if TYPE_CHECKING:
    from rlkit.types import Experience, Ragged


@dataclass(frozen=True)
class JointObjective:
    """policy objective + value_weight * value loss (Schulman et al. 2017, arXiv:1707.06347, eq. 9, as a loss).

    Metrics are those of both parts; `actor/loss` and `critic/loss` are the unweighted parts.
    """

    policy: PolicyObjective
    value: ValueObjective
    value_weight: float

    @property
    def needs_entropy_gradient(self) -> bool:
        return self.policy.needs_entropy_gradient

    def prepare(self, mini_batch: Experience, compute_log_probs: Callable[[], Ragged]) -> Experience:
        """As `PolicyObjective.prepare`."""
        return self.policy.prepare(mini_batch, compute_log_probs)

    def __call__(
        self, log_probs: Tensor, entropy: Tensor, values: Tensor, batch: Experience, denominators: Denominators
    ) -> ObjectiveShare:
        """log_probs, entropy, values [B, R] of the present network; `batch` has returns and old_values.

        `denominators` are those of the whole mini-batch that `batch` is a part of.
        """
        policy = self.policy(log_probs, entropy, batch, denominators)
        value = self.value(values, batch, denominators)
        return ObjectiveShare(policy.loss + self.value_weight * value.loss, {**policy.metrics, **value.metrics})
