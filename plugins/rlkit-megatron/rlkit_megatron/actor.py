"""The policy in training, and a frozen policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.log_probs import TokenStatistics
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, PolicyObjective
from rlkit.algos.packed_objective import policy_share
from rlkit.protocols.actor import LogProbs
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_megatron.pipeline import LastHiddenStates
from rlkit_megatron.roles import HeldModel, TrainedModel


def compute_log_probs(
    model: HeldModel, rollouts: Rollouts, temperature: float, *, probability_squares: bool = False
) -> LogProbs:
    """Of all rows of this process's share. Collective."""
    compute = statistics_of(model, temperature, probability_squares=probability_squares)
    return LogProbs(*model.forward_rows(rollouts, compute, outputs=3 if probability_squares else 2))


def statistics_of(
    model: HeldModel, temperature: float, *, probability_squares: bool
) -> Callable[[LastHiddenStates], Sequence[Tensor]]:
    """Function of the last hidden states: the statistics that were asked for."""

    def compute(hidden: LastHiddenStates) -> Sequence[Tensor]:
        found: TokenStatistics = model.statistics(hidden, temperature, probability_squares=probability_squares)
        return [tensor for tensor in found if tensor is not None]

    return compute


class MegatronReference(HeldModel):
    """A frozen policy."""

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return compute_log_probs(self, rollouts, temperature)


class MegatronActor(TrainedModel):
    """The policy in training."""

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return compute_log_probs(self, rollouts, temperature, probability_squares=probability_squares)

    def base_policy(self) -> None:
        """None: there are no adapters."""
        return

    def save_adapter(self, folder: Path) -> None:
        """There is none."""
        raise ValueError("the role has no adapter")

    def update_policy(
        self, experience: Experience, objective: PolicyObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step; see `rlkit.protocols.actor.PolicyActor`."""
        experience = objective.prepare(experience, lambda: self.present_log_probs(experience.rollouts, temperature))

        def share_of(hidden: LastHiddenStates, part: Experience, denominators: Denominators) -> ObjectiveShare:
            log_probs, entropy, _ = self.statistics(hidden, temperature)
            return policy_share(objective, part, denominators, log_probs, entropy)

        metrics, empty = self.learn(experience, share_of)
        return {**metrics, **in_area("actor", self.optimizer.step(empty=empty))}

    def present_log_probs(self, rollouts: Rollouts, temperature: float) -> Ragged:
        """What a loss that chooses tokens looks at; with the rows in several shares it comes too late here."""
        if self.parallel.row_share.count > 1:
            raise ValueError("this policy loss chooses tokens of the whole mini-batch: prepare it before it is spread")
        return self.compute_log_probs(rollouts, temperature=temperature).log_probs
