"""An actor and a critic on one network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlkit.protocols.saving import PendingSave
from rlkit.types.experience import Experience
from rlkit.types.ragged import Ragged
from rlkit.types.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.joint_objective import JointObjective
    from rlkit.algos.objective import ValueObjective
    from rlkit.protocols.actor import LogProbs, ReferenceModel


class ActorCritic(Protocol):
    """A policy whose last hidden states a value head reads: Linear(hidden, 1) in float32, zero at first."""

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        """As `PolicyActor.compute_log_probs`."""
        ...

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        """As `Critic.compute_values`."""
        ...

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""
        ...

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> Mapping[str, float]:
        """One optimizer step of trunk and head on one mini-batch; as `PolicyActor.update_policy` otherwise.

        `experience.returns` and `old_values` are present. Trunk and head are each clipped by their own norm:
        `critic/grad_norm` and `critic/lr` are the head's, `actor/grad_norm` and `actor/lr` the rest's.
        """
        ...

    def update_head(self, experience: Experience, objective: ValueObjective) -> Mapping[str, float]:
        """One optimizer step of the head on one mini-batch; the trunk and its moments keep their bits."""
        ...

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """As `PolicyActor.export_weights`: the policy, without the head."""
        ...

    def base_policy(self) -> ReferenceModel | None:
        """As `PolicyActor.base_policy`."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """As `PolicyActor.save_adapter`."""
        ...

    def save(self, folder: Path) -> None:
        """Write policy, head, optimizer and schedule under `folder` (which exists and is empty)."""
        ...

    def begin_save(self, folder: Path) -> PendingSave:
        """As `PolicyActor.begin_save`."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; the next update then gives the same bits."""
        ...

    def onload(self) -> None: ...

    def offload(self) -> None: ...
