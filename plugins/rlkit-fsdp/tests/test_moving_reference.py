"""The moving reference, and that its contract finds faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.moving_reference import FSDPMovingReference

from rlkit.errors import ModelError
from rlkit.models.safetensors_io import read_headers
from rlkit.testing.contracts import moving_references as contract
from rlkit.testing.tiny_model import tiny_model


class Aliases(FSDPMovingReference):
    """Keeps the policy's tensors instead of copies."""

    def update_weights(self, named_tensors: Any, *, decay: float = 0.0) -> None:
        given = dict(named_tensors)
        for name, parameter in self.module.named_parameters():
            parameter.data = given[name]


class TurnsTheDecayRound(FSDPMovingReference):
    def update_weights(self, named_tensors: Any, *, decay: float = 0.0) -> None:
        super().update_weights(named_tensors, decay=decay and 1 - decay)


class HoldsItsOwnType(FSDPMovingReference):
    def update_weights(self, named_tensors: Any, *, decay: float = 0.0) -> None:
        super().update_weights(named_tensors, decay=decay)
        if self.role.dtype == "bfloat16":
            for parameter in self.module.parameters():
                parameter.data = parameter.data.bfloat16().float()


class LoadsNothing(FSDPMovingReference):
    def load(self, folder: Path) -> None:
        """The weights that it was built with."""


FAULTS: dict[Any, type[FSDPMovingReference]] = {
    contract.a_copy_gives_the_policy_s_own_log_probs: Aliases,
    contract.a_moving_average_is_that_of_the_weights: TurnsTheDecayRound,
    contract.small_steps_of_an_average_are_not_lost_in_bfloat16: HoldsItsOwnType,
    contract.a_saved_reference_goes_on_with_the_same_bits: LoadsNothing,
}


class Context:
    """Stands in for `rlkit.testing.ContractContext` with a backend of our own."""

    def __init__(self, faulty: type[FSDPMovingReference], tmp_path: Path) -> None:
        self.faulty, self.tmp_path = faulty, tmp_path

    def build(self) -> FSDPBackend:
        backend = FSDPBackend()
        backend.build_moving_reference = self.faulty  # type: ignore[method-assign, assignment]
        return backend

    def tiny_model(self) -> Path:
        return tiny_model()


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_every_check_finds_its_fault(check: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(Context(FAULTS[check], tmp_path))


def test_it_is_held_and_saved_in_float32_whatever_the_arithmetic(role, tmp_path):
    reference = FSDPBackend().build_moving_reference(role(dtype="bfloat16", optimizer=None))
    assert {parameter.dtype for parameter in reference.module.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in reference.module.parameters())
    reference.save(tmp_path)
    assert {info.dtype for info in read_headers(tmp_path / "weights").values()} == {"F32"}


def test_weights_of_another_model_are_refused(role):
    reference = FSDPBackend().build_moving_reference(role(optimizer=None))
    for decay in (0.0, 0.5):
        with pytest.raises(ModelError, match="the policy that the reference follows"):
            reference.update_weights([("model.elsewhere.weight", torch.zeros(3))], decay=decay)
        with pytest.raises(ModelError, match="expects"):
            reference.update_weights([("model.norm.weight", torch.zeros(3))], decay=decay)


def test_tied_tensors_are_averaged_once(role):
    family = role().family
    reference = FSDPBackend().build_moving_reference(role(optimizer=None))
    assert reference.module.config.tie_word_embeddings
    before = {name: tensor.clone() for name, tensor in family.export_weights(reference.module)}
    reference.update_weights([(name, torch.zeros_like(tensor)) for name, tensor in before.items()], decay=0.5)
    for name, tensor in family.export_weights(reference.module):
        assert torch.equal(tensor, 0.5 * before[name]), name
