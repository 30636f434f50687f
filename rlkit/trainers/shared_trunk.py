"""Actor and critic on one network, as the loop knows them: an actor, and a critic that learns alone only in warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.protocols import ActorCritic, PendingSave, ReferenceModel
from rlkit.protocols.actor import LogProbs
from rlkit.types import Experience, Ragged, Rollouts
from rlkit.types.adapter import AdapterWeights


@dataclass(frozen=True, eq=False)
class SharedTrunk:
    """Both a `PolicyActor` and a `Critic`.

    value_objective, value_weight  what every policy update also learns
    """

    model: ActorCritic
    value_objective: ValueObjective
    value_weight: float

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return self.model.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        return self.model.compute_values(rollouts)

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""
        return self.model.compute_log_probs_and_values(
            rollouts, temperature=temperature, probability_squares=probability_squares
        )

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> Mapping[str, float]:
        """One optimizer step on policy and value loss together."""
        joint = JointObjective(objective, self.value_objective, self.value_weight)
        return self.model.update_jointly(experience, joint, temperature=temperature)

    def update_values(self, experience: Experience, objective: ValueObjective) -> Mapping[str, float]:
        """One optimizer step of the value head; the trunk stays as it is."""
        return self.model.update_head(experience, objective)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The policy's, without the value head."""
        return self.model.export_weights()

    def export_adapter(self) -> AdapterWeights | None:
        """The policy's; None where the backend does not export any."""
        export_adapter = getattr(self.model, "export_adapter", None)
        return None if export_adapter is None else export_adapter()

    def base_policy(self) -> ReferenceModel | None:
        return self.model.base_policy()

    def save_adapter(self, folder: Path) -> None:
        self.model.save_adapter(folder)

    def save(self, folder: Path) -> None:
        self.model.save(folder)

    def begin_save(self, folder: Path) -> PendingSave:
        return self.model.begin_save(folder)

    def load(self, folder: Path) -> None:
        self.model.load(folder)

    def onload(self) -> None:
        self.model.onload()

    def offload(self) -> None:
        self.model.offload()
