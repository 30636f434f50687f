"""Which models a PPO run builds, and what of them a checkpoint holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import DataError
from rlkit.models.registry import find_family
from rlkit.pipelines import ppo
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.ppo import Roles, build_roles
from rlkit.pipelines.residence import build_residence
from rlkit.protocols.actor import OptimizerSettings
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeMovingReference
from rlkit.testing.tiny_model import tiny_model
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

    def build_actor_critic(self, role: Any, *, head: OptimizerSettings) -> FakeActorCritic:
        self.built.append(f"actor with a head of rate {head.lr:g}")
        self.optimizers |= {"actor": role.optimizer, "critic": head}
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
        config = load_config("ppo", assignments=[f"model.path={tiny_model()}", *assignments], environ={}).config
        located = SimpleNamespace(folder=tiny_model(), family=find_family(tiny_model()))
        return build_roles(config, located, backend, "cpu"), backend  # type: ignore[arg-type]

    return roles


def test_a_critic_of_its_own_is_built_beside_the_actor(build):
    roles, backend = build()
    assert backend.built == ["actor", "critic"]
    assert list(roles.with_state()) == ["actor", "critic"]
    assert (roles.reference, roles.reference_course) == (None, None)


@pytest.mark.parametrize(
    ("advantage", "actor_steps", "settings"),
    [("gae", 3 * 4, ()), ("grpo", 5 * 4, ()), ("gae", 3 * 4, ("critic.shared_trunk=true",))],
)
def test_the_schedules_end_with_the_run_though_the_critic_warms_up_alone(build, advantage, actor_steps, settings):
    _, backend = build(
        "trainer.steps=5",
        "critic.warmup_iterations=2",
        "algorithm.epochs=2",
        "rollout.prompts_per_step=4",
        "algorithm.mini_batch_samples=8",
        f"algorithm.advantage={advantage}",
        *settings,
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


AWAY = "placement.offload_idle_models=true"


@pytest.fixture
def moves(monkeypatch):
    """Fakes that were told to leave their device, in order."""
    found: list[Any] = []
    for kind in (FakeActor, FakeCritic, FakeActorCritic):
        monkeypatch.setattr(kind, "offload", lambda model: found.append(model))
    return found


def test_idle_models_leave_as_soon_as_they_are_built_and_each_stands_for_its_role(build, moves):
    roles, _ = build("algorithm.kl_loss=0.1", AWAY)
    assert moves == [roles.actor, roles.critic, roles.reference]
    assert residence_of(roles, AWAY) == {"actor": roles.actor, "critic": roles.critic, "reference": roles.reference}


def test_models_stay_where_they_are_unless_asked(build, moves):
    roles, _ = build("algorithm.kl_loss=0.1")
    assert moves == []
    assert residence_of(roles) == {}


def test_the_reference_inside_of_an_actor_moves_as_the_actor(build, moves):
    roles, backend = build("algorithm.advantage=grpo", "algorithm.kl_loss=0.1", "actor.lora.rank=2", AWAY)
    assert moves == [roles.actor]
    assert roles.reference is backend.base
    assert residence_of(roles, AWAY) == {"actor": roles.actor, "reference": roles.actor}


def test_a_shared_trunk_leaves_once(build, moves):
    roles, _ = build("critic.shared_trunk=true", AWAY)
    assert moves == [roles.actor.model]
    assert residence_of(roles, AWAY) == {"actor": roles.actor, "critic": roles.actor}


def test_a_role_with_workers_of_its_own_stays_on_them(build, moves):
    own = (AWAY, "placement.workers=2", "placement.critic=1", "placement.reference=1")
    roles, _ = build("algorithm.kl_loss=0.1", "reference.refresh_every=2", *own)
    assert moves == [roles.actor]
    assert residence_of(roles, *own) == {"actor": roles.actor}


def residence_of(roles: Roles, *assignments: str) -> dict[str, Any]:
    """Which model comes to the device for which role."""
    config = load_config("ppo", assignments=[f"model.path={tiny_model()}", *assignments], environ={}).config
    return build_residence(config, roles)._models  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_training_on_prompts_with_images_is_refused_before_any_model_is_built(tmp_path, part):
    plain, pictures = tmp_path / "plain.jsonl", tmp_path / "pictures.jsonl"
    plain.write_text('{"prompt": "1+2=", "answer": "3"}\n' * 2)
    pictures.write_text('{"prompt": "1+2="}\n{"prompt": "?", "images": ["data:image/png;base64,aGVsbG8="]}\n')
    files = {"train": plain, "validation": plain, part: pictures}
    flags = {f"data.{name}": [str(path)] for name, path in files.items()}
    flags |= {"model.path": str(tiny_model()), "rollout.prompts_per_step": 2, "data.max_prompt_tokens": 32}
    config = load_config("ppo", None, flags=flags, environ={}).config
    with pytest.raises(
        DataError, match=r"prompt 1 .* has images, and training with actor backend fsdp takes text only"
    ):
        ppo.load_data(config, locate(config.model))


@pytest.mark.parametrize("failing", ["CheckpointContent", "assemble"])
def test_engine_and_scorer_are_closed_when_the_run_cannot_start(tmp_path, monkeypatch, failing):
    class Unfit(Exception):
        """What does not fit."""

    def fail(*arguments, **keywords):
        raise Unfit

    closed = []
    engine = SimpleNamespace(close=lambda: closed.append("engine"))
    scorer = SimpleNamespace(close=lambda: closed.append("scorer"))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "1+2=", "answer": "3"}\n' * 2)
    flags = {"data.train": [str(prompts)], "model.path": str(tiny_model()), "run.output": str(tmp_path / "runs")}
    flags |= {"rollout.prompts_per_step": 2, "data.max_prompt_tokens": 32, "rollout.max_response_tokens": 8}
    monkeypatch.setattr(ppo, "build_scorer", lambda *arguments, **keywords: scorer)
    monkeypatch.setattr(ppo, "build_roles", lambda *arguments: Roles(FakeActor(), None, None))
    monkeypatch.setattr(ppo, "build_rollout_engine", lambda *arguments: engine)
    monkeypatch.setattr(ppo, failing, fail)
    with pytest.raises(Unfit):
        ppo.run_ppo(load_config("ppo", None, flags=flags, environ={}))
    assert closed == ["engine", "scorer"]
