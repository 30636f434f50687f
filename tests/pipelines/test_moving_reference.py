"""What a reference that follows the actor is built from, and what it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.models.registry import find_family
from rlkit.pipelines.moving_reference import build_reference_course, check_reference_path
from rlkit.protocols import ModelRole
from rlkit.testing.fakes import FakeMovingReference
from rlkit.testing.tiny_model import tiny_model


def config(*assignments: str):
    return load_config(
        "ppo", assignments=[f"model.path={tiny_model()}", "algorithm.kl_loss=0.1", *assignments], environ={}
    ).config


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same family with another vocabulary."""
    import torch

    folder = tmp_path_factory.mktemp("wider")
    family = find_family(tiny_model())
    made = family.create_config("tiny", {"vocab_size": 99})
    module = family.build(made, head="causal_lm", dtype=torch.float32, device="cpu")
    family.save(family.export_weights(module), made, folder)
    return folder


class Backend:
    def build_moving_reference(self, role):
        return FakeMovingReference()


def role(folder: Path) -> ModelRole:
    return ModelRole(folder, find_family(folder), "float32", "cpu", 64, False, False, 0)


@pytest.mark.parametrize(("assignment", "every", "decay"), [("refresh_every=5", 5, 0.0), ("ema_decay=0.9", 1, 0.9)])
def test_the_course_is_that_of_the_config(assignment, every, decay):
    made = config(f"reference.{assignment}")
    course = build_reference_course(made, Backend(), role(tiny_model()), tiny_model())
    assert (course.every, course.decay) == (every, decay)


def test_another_architecture_is_refused_before_and_when_it_is_built(wider):
    made = config("reference.ema_decay=0.9", f"reference.path={wider}")
    with pytest.raises(ConfigError, match=r"reference\.path .* cannot take over the weights .* is .*, not "):
        check_reference_path(made)
    with pytest.raises(ConfigError, match="cannot take over"):
        build_reference_course(made, Backend(), role(wider), tiny_model())


def test_a_frozen_reference_may_be_any_model(wider):
    check_reference_path(config(f"reference.path={wider}"))


def test_another_copy_of_the_same_model_will_do(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model(), copy)
    made = config("reference.refresh_every=2", f"reference.path={copy}")
    check_reference_path(made)
    assert build_reference_course(made, Backend(), role(copy), tiny_model()).every == 2
