"""The backend contract is worth something only if it fails for backends with a fault: each check meets one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.critic import FSDPCritic
from rlkit_fsdp.supervised import FSDPSupervised
from torch import Tensor

from rlkit.protocols.actor import LogProbs, ModelRole
from rlkit.testing.backend_cases import WHOLE, model_role
from rlkit.testing.contracts import actor_backend as contract
from rlkit.testing.contracts import actor_critics, adapters, moving_references
from rlkit.testing.tiny_model import tiny_model
from rlkit.types import Experience, Ragged, Rollouts, SupervisedBatch
from rlkit.types.adapter import AdapterWeights


class ForgetsTheTemperature(FSDPActor):
    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return super().compute_log_probs(rollouts, temperature=1.0, probability_squares=probability_squares)


class SquaresTheTokenOnly(FSDPActor):
    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        answer = super().compute_log_probs(rollouts, temperature=temperature)
        squares = answer.log_probs.with_values((2 * answer.log_probs.values).exp())
        return replace(answer, probability_squares=squares if probability_squares else None)


class MixesRows(FSDPActor):
    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        answer = super().compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)
        mixed = answer.log_probs.with_values(answer.log_probs.values + 1e-3 * len(rollouts))
        return replace(answer, log_probs=mixed)


class CountsTokensOfEachPart(FSDPActor):
    """Averages over micro-batches: the well-known mistake."""

    def update_policy(self, experience: Experience, objective: Any, *, temperature: float) -> dict[str, float]:
        if self.role.micro_batch_tokens == WHOLE:
            return super().update_policy(experience, objective, temperature=temperature)
        half = len(experience) // 2

        def averaged(log_probs: Tensor, entropy: Tensor, part: Experience, _: Any) -> Any:
            from rlkit.algos.aggregation import Denominators

            share = objective(log_probs, entropy, part, Denominators.of(part.loss_mask.padded(False)))
            return replace(share, loss=share.loss / (len(experience) - half))

        averaged.needs_entropy_gradient = True  # type: ignore[attr-defined]
        averaged.prepare = objective.prepare  # type: ignore[attr-defined]
        return super().update_policy(experience, averaged, temperature=temperature)  # type: ignore[arg-type]


class ChoosesTokensOfEachPart(FSDPActor):
    """Prepares micro-batches instead of the mini-batch."""

    def update_policy(self, experience: Experience, objective: Any, *, temperature: float) -> dict[str, float]:
        if self.role.micro_batch_tokens == WHOLE:
            return super().update_policy(experience, objective, temperature=temperature)

        def of_a_part(log_probs: Tensor, entropy: Tensor, part: Experience, denominators: Any) -> Any:
            lengths = part.rollouts.response_ids.lengths
            prepared = objective.prepare(part, lambda: Ragged.from_padded(log_probs.detach(), lengths))
            return objective(log_probs, entropy, prepared, denominators)

        of_a_part.needs_entropy_gradient = True  # type: ignore[attr-defined]
        of_a_part.prepare = lambda whole, _: whole  # type: ignore[attr-defined]
        return super().update_policy(experience, of_a_part, temperature=temperature)  # type: ignore[arg-type]


class ClimbsDown(FSDPActor):
    def update_policy(self, experience: Experience, objective: Any, *, temperature: float) -> dict[str, float]:
        turned = experience.advantages.with_values(-experience.advantages.values)
        return super().update_policy(replace(experience, advantages=turned), objective, temperature=temperature)


class KeepsDropout(FSDPActor):
    def __init__(self, role: ModelRole) -> None:
        super().__init__(role)
        self.module.train()


class StepsOnNaN(FSDPActor):
    def update_policy(self, experience: Experience, objective: Any, *, temperature: float) -> dict[str, float]:
        metrics = super().update_policy(experience, objective, temperature=temperature)
        if metrics["actor/skipped_steps"]:
            for parameter in self.module.parameters():
                parameter.data.mul_(float("nan"))
        return metrics


class StepsOnNothing(FSDPActor):
    def __init__(self, role: ModelRole) -> None:
        super().__init__(role)
        step = self.optimizer.step
        self.optimizer.step = lambda *, empty=False: step()  # type: ignore[method-assign]


class InventsNames(FSDPActor):
    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in super().export_weights():
            yield name.replace("layers.0", "layers.5"), tensor


class ForgetsMoments(FSDPActor):
    def load(self, folder: Path) -> None:
        super().load(folder)
        self.optimizer._adamw.state.clear()


class Pickles(FSDPActor):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "extra.bin").write_bytes(pickle.dumps({"a": 1}, protocol=4))


class LosesStateOnTheWay(FSDPActor):
    def offload(self) -> None:
        self.optimizer._adamw.state.clear()


class TakesItselfForTheBase(FSDPActor):
    def base_policy(self) -> Any:
        return self


class ForgetsTheAdapter(FSDPActor):
    """Trains everything, as if the role had no `lora`."""

    def __init__(self, role: ModelRole) -> None:
        super().__init__(replace(role, lora=None))


class MergesWithoutScaling(FSDPActor):
    def __init__(self, role: ModelRole) -> None:
        super().__init__(role)
        assert self.adapter is not None
        layers = self.adapter._layers
        self.adapter._merge = lambda name, weight, _: (  # type: ignore[method-assign]
            weight + layers[name].lora_B["default"].weight @ layers[name].lora_A["default"].weight
        )


class ExportsWithoutScale(FSDPActor):
    def export_adapter(self) -> AdapterWeights | None:
        adapter = super().export_adapter()
        return None if adapter is None else replace(adapter, scale=1.0)


class SavesTheWholeModel(FSDPActor):
    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "weights").mkdir()
        self.role.family.save(self.export_weights(), self.module.config, folder / "weights")


class NeverLearns(FSDPCritic):
    def update_values(self, experience: Experience, objective: Any) -> dict[str, float]:
        weights = {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()}
        metrics = super().update_values(experience, objective)
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(weights[name])
        return metrics


class LooksAhead(FSDPCritic):
    """Value t is read after token t."""

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        values = super().compute_values(rollouts)
        return values.with_values(values.values.roll(-1))


class ForgetsTheSchedule(FSDPCritic):
    def load(self, folder: Path) -> None:
        super().load(folder)
        self.optimizer.steps_done = 0


class LearnsPromptsToo(FSDPSupervised):
    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        total, count = super().evaluate(batch)
        return total * 1.01, count


class ForgetsSupervisedMoments(FSDPSupervised):
    def save(self, folder: Path) -> None:
        super().save(folder)
        path = folder / "optimizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "parameter_steps": {}}))


class SharedReference:
    """A backend whose reference is its actor."""

    def __init__(self) -> None:
        self.shared: FSDPActor | None = None

    def build_reference(self, role: ModelRole) -> Any:
        optimizer = model_role(Context(FSDPBackend())).optimizer
        self.shared = FSDPActor(replace(role, optimizer=optimizer))
        return self.shared

    def build_actor(self, role: ModelRole) -> Any:
        return self.shared


def _backend(**models: type) -> type:
    """A backend that builds these classes instead of its own."""
    methods = {f"build_{name}": lambda self, role, model=model: model(role) for name, model in models.items()}
    return type("Faulty", (FSDPBackend,), methods)


FAULTS: dict[Any, type] = {
    contract.log_probs_and_entropies_are_those_of_the_model: _backend(actor=ForgetsTheTemperature),
    contract.squared_probabilities_come_when_asked_for: _backend(actor=SquaresTheTokenOnly),
    contract.the_other_rows_do_not_matter: _backend(actor=MixesRows),
    contract.splitting_the_mini_batch_leaves_the_update_alone: _backend(actor=CountsTokensOfEachPart),
    contract.tokens_are_chosen_of_the_whole_mini_batch: _backend(actor=ChoosesTokensOfEachPart),
    contract.updates_follow_the_advantages: _backend(actor=ClimbsDown),
    contract.dropout_is_switched_off: _backend(actor=KeepsDropout),
    contract.the_reference_stays_as_it_is: SharedReference,
    contract.a_broken_gradient_is_skipped_and_counted: _backend(actor=StepsOnNaN),
    contract.a_mini_batch_without_a_token_to_learn_from_changes_nothing: _backend(actor=StepsOnNothing),
    contract.exported_weights_are_whole_and_carry_hugging_face_names: _backend(actor=InventsNames),
    contract.a_saved_policy_goes_on_with_the_same_bits: _backend(actor=ForgetsMoments),
    contract.nothing_is_pickled: _backend(actor=Pickles),
    contract.the_critic_learns_the_returns: _backend(critic=NeverLearns),
    contract.values_are_predicted_from_what_comes_before: _backend(critic=LooksAhead),
    contract.a_saved_critic_goes_on_with_the_same_bits: _backend(critic=ForgetsTheSchedule),
    contract.supervised_loss_is_that_of_the_model_and_falls: _backend(supervised=LearnsPromptsToo),
    contract.a_saved_supervised_model_goes_on_with_the_same_bits: _backend(supervised=ForgetsSupervisedMoments),
    contract.offloading_changes_nothing: _backend(actor=LosesStateOnTheWay),
    adapters.an_adapter_starts_as_the_model_and_leaves_it_as_it_is: _backend(actor=TakesItselfForTheBase),
    adapters.only_adapted_weights_change: _backend(actor=ForgetsTheAdapter),
    adapters.merged_weights_are_the_policy: _backend(actor=MergesWithoutScaling),
    adapters.the_exported_adapter_is_what_was_merged: _backend(actor=ExportsWithoutScale),
    adapters.a_saved_adapter_is_small_and_goes_on_with_the_same_bits: _backend(actor=SavesTheWholeModel),
}


class Context:
    """Stands in for `rlkit.testing.ContractContext` with a backend of our own."""

    def __init__(self, backend: Any, tmp_path: Path = Path()) -> None:
        self.backend, self.tmp_path = backend, tmp_path

    def build(self) -> Any:
        return self.backend

    def tiny_model(self) -> Path:
        return tiny_model()


ELSEWHERE = (*moving_references.CHECKS, *actor_critics.CHECKS)
"""Their faults are in test_moving_reference.py and test_actor_critic.py."""


@pytest.mark.parametrize(
    "check", [check for check in contract.CHECKS if check not in ELSEWHERE], ids=lambda check: check.__name__
)
def test_every_check_finds_its_fault(check: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(Context(FAULTS[check](), tmp_path))
