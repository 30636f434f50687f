"""Which models a PPO run builds, and what of them a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.data.order import EpochOrder
from rlkit.errors import CheckpointError
from rlkit.models.registry import find_family
from rlkit.pipelines import ppo
from rlkit.pipelines.ppo import Roles, build_roles, restore, save
from rlkit.protocols.actor import OptimizerSettings
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeMovingReference
from rlkit.testing.tiny_model import tiny_model
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.ppo_state import PPOState
from rlkit.trainers.shared_trunk import SharedTrunk


class Backend:
    """Builds fakes and remembers which."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.optimizers: dict[str, OptimizerSettings] = {}
        self.base = FakeActor()

    def build_actor(self, role: Any) -> FakeActor:
        self.built.append("actor")
        self.optimizers["actor"] = role.optimizer
        actor = FakeActor()
        actor.base_policy = lambda: self.base if role.lora else None  # type: ignore[method-assign, assignment, return-value]
        return actor

    def build_critic(self, role: Any) -> FakeCritic:
        self.built.append("critic")
        self.optimizers["critic"] = role.optimizer
        return FakeCritic()

    def build_actor_critic(self, role: Any, *, head_lr: float) -> FakeActorCritic:
        self.built.append(f"actor with a head of rate {head_lr:g}")
        return FakeActorCritic()

    def build_reference(self, role: Any) -> FakeActor:
        assert role.optimizer is None
        self.built.append("reference")
        return FakeActor()

    def build_moving_reference(self, role: Any) -> FakeMovingReference:
        assert role.optimizer is None and role.lora is None
        self.built.append("moving reference")
        return FakeMovingReference()


@pytest.fixture
def build(monkeypatch):
    """Function: the roles of a run with these settings, and the backend that built them."""

    def roles(*assignments: str) -> tuple[Roles, Backend]:
        backend = Backend()
        monkeypatch.setattr(ppo, "build_plugin", lambda *_, **__: backend)
        config = load_config("ppo", assignments=[f"model.path={tiny_model()}", *assignments], environ={}).config
        located = SimpleNamespace(folder=tiny_model(), family=find_family(tiny_model()))
        return build_roles(config, located, "cpu"), backend  # type: ignore[arg-type]

    return roles


def test_a_critic_of_its_own_is_built_beside_the_actor(build):
    roles, backend = build()
    assert backend.built == ["actor", "critic"]
    assert list(roles.with_state()) == ["actor", "critic"]
    assert (roles.reference, roles.reference_course) == (None, None)


@pytest.mark.parametrize(("advantage", "actor_steps"), [("gae", 3 * 4), ("grpo", 5 * 4)])
def test_the_schedules_end_with_the_run_though_the_critic_warms_up_alone(build, advantage, actor_steps):
    _, backend = build(
        "trainer.steps=5",
        "critic.warmup_iterations=2",
        "algorithm.epochs=2",
        "rollout.prompts_per_step=4",
        "algorithm.mini_batch_samples=8",
        f"algorithm.advantage={advantage}",
    )
    assert backend.optimizers["actor"].total_steps == actor_steps
    if advantage == "gae":
        assert backend.optimizers["critic"].total_steps == 5 * 4


def test_a_shared_trunk_is_actor_and_critic_and_saved_once(build):
    roles, backend = build(
        "critic.shared_trunk=true", "critic.lr=1e-3", "critic.loss_weight=0.4", "critic.value_clip=0.3"
    )
    assert backend.built == ["actor with a head of rate 0.001"]
    assert roles.critic is roles.actor
    assert isinstance(roles.actor, SharedTrunk)
    assert (roles.actor.value_weight, roles.actor.value_objective.clip) == (0.4, 0.3)
    assert list(roles.with_state()) == ["actor"]


@pytest.mark.parametrize(
    ("settings", "built", "saved"),
    [
        ((), "reference", False),
        (("reference.refresh_every=3",), "moving reference", True),
        (("reference.ema_decay=0.9",), "moving reference", True),
        (("reference.ema_decay=0.9", "actor.lora.rank=2"), "moving reference", True),
    ],
)
def test_only_a_reference_that_moves_is_part_of_a_checkpoint(build, settings, built, saved):
    roles, backend = build("algorithm.advantage=grpo", "algorithm.kl_loss=0.1", *settings)
    assert backend.built == ["actor", built]
    assert ("reference" in roles.with_state()) is saved
    assert roles.reference is not None


def test_an_actor_with_an_adapter_has_its_frozen_reference_inside(build):
    roles, backend = build("algorithm.advantage=grpo", "algorithm.kl_loss=0.1", "actor.lora.rank=2")
    assert backend.built == ["actor"]
    assert roles.reference is backend.base


class TestCheckpoint:
    def roles(self, start: float) -> Roles:
        trunk = FakeActorCritic(log_odds=start)
        shared = SharedTrunk(trunk, None, 0.1)  # type: ignore[arg-type]
        reference = FakeMovingReference(log_odds=2 * start)
        return Roles(shared, shared, reference, ReferenceCourse(reference))

    def test_models_of_each_other_come_back_with_the_same_bits(self, tmp_path: Path):
        before, after = self.roles(0.1), self.roles(0.0)
        order = EpochOrder(8, seed=0)
        (tmp_path / "state").mkdir()
        save(tmp_path, before, PPOState(step=3), order)
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["actor", "reference", "trainer.json"]
        state = PPOState()
        restore(tmp_path, after, state, order)
        assert state.step == 3
        assert after.actor.model.parameter.item() == before.actor.model.parameter.item()
        assert after.reference.parameter.item() == before.reference.parameter.item()

    def test_a_model_that_the_checkpoint_lacks_is_named(self, tmp_path: Path):
        order = EpochOrder(8, seed=0)
        (tmp_path / "state").mkdir()
        save(tmp_path, Roles(FakeActor(), None, None), PPOState(), order)
        reference = FakeMovingReference()
        roles = Roles(FakeActor(), None, reference, ReferenceCourse(reference))
        with pytest.raises(CheckpointError, match="has no reference: the run began without one"):
            restore(tmp_path, roles, PPOState(), order)
