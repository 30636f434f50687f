"""What of a run's models and state a checkpoint holds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkit.config.sections import LoraSection, ModelSection
from rlkit.data.order import EpochOrder
from rlkit.errors import CheckpointError
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.checkpoint_content import CheckpointContent
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.ppo import Roles
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.testing.fakes import FakeActor, FakeMovingReference
from rlkit.testing.tiny_model import tiny_model
from rlkit.tracking.random_state import random_state, restore_random_state
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.ppo_state import PPOState
from rlkit.trainers.shared_trunk import SharedTrunk

WEIGHTS = dict(AutoModelForCausalLM.from_pretrained(tiny_model()).state_dict())


@pytest.fixture(autouse=True)
def generators(tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("random") / "before.json"
    file.write_text(random_state())
    yield
    restore_random_state(file)


def all_roles(start: float) -> Roles:
    trunk = FakeActorCritic(log_odds=start)
    shared = SharedTrunk(trunk, None, 0.1)  # type: ignore[arg-type]
    reference = FakeMovingReference(log_odds=2 * start)
    return Roles(shared, shared, reference, ReferenceCourse(reference))


@pytest.fixture
def build():
    """Function: the content of a run with these models; the exported weights are those of the tiny model."""

    def made(roles: Roles, state: PPOState | None = None, **order: Any) -> CheckpointContent:
        export = ModelExport(locate(ModelSection(path=str(tiny_model()))))
        policy: Any = SimpleNamespace(export_weights=lambda: iter(WEIGHTS.items()))
        shuffled = EpochOrder(**{"num_rows": 8, "seed": 0, **order})
        return CheckpointContent(roles.with_state(), state or PPOState(), shuffled, policy, export, LoraSection())

    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_models_state_and_cursor_come_back(build, tmp_path):
    before, after = build(all_roles(0.1), PPOState(step=3, policy_version=12)), build(all_roles(0.0))
    before.order.take(5)
    before.stage(tmp_path)()
    assert names(tmp_path) == ["model", "state"]
    assert names(tmp_path / "state") == ["actor", "random.json", "reference", "trainer.json"]
    after.restore(tmp_path)
    assert (after.state.step, after.state.policy_version) == (3, 12)
    assert after.order.take(8) == before.order.take(8)
    found, expected = after.models["actor"].model, before.models["actor"].model
    assert found.parameter.item() == expected.parameter.item()
    assert after.models["reference"].parameter.item() == before.models["reference"].parameter.item()


def test_random_numbers_go_on_where_the_checkpoint_was_staged(build, tmp_path):
    content = build(all_roles(0.1))
    write = content.stage(tmp_path)
    expected = random.random(), torch.rand(1).item()
    write()
    content.restore_random_state(tmp_path)
    assert (random.random(), torch.rand(1).item()) == expected


def test_what_is_staged_does_not_follow_the_training(build, tmp_path):
    state = PPOState(step=3)
    content = build(all_roles(0.1), state)
    weights = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    content.policy.export_weights = lambda: iter(weights.items())
    write = content.stage(tmp_path)
    state.step = 4
    for tensor in weights.values():
        tensor.zero_()
    write()
    assert json.loads((tmp_path / "state" / "trainer.json").read_text())["state"]["step"] == 3
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_the_export_opens_with_its_tokenizer_each_time(build, tmp_path):
    content = build(all_roles(0.1))
    original = AutoTokenizer.from_pretrained(tiny_model())
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        content.stage(folder)()
        found = AutoTokenizer.from_pretrained(folder / "model")
        assert found.chat_template == original.chat_template
        assert found.get_vocab() == original.get_vocab()
    assert names(tmp_path / "first" / "model") == names(tmp_path / "second" / "model")


def test_a_model_that_the_checkpoint_lacks_is_named(build, tmp_path):
    build(Roles(FakeActor(), None, None)).stage(tmp_path)()
    reference = FakeMovingReference()
    later = build(Roles(FakeActor(), None, reference, ReferenceCourse(reference)))
    with pytest.raises(CheckpointError, match="has no reference: the run began without one"):
        later.restore(tmp_path)


def test_other_data_are_refused(build, tmp_path):
    build(all_roles(0.1)).stage(tmp_path)()
    with pytest.raises(CheckpointError, match="num_rows = 8, this run has 9"):
        build(all_roles(0.1), num_rows=9).restore(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"state": {"step": 3}, "order": {}}'])
def test_the_state_of_another_version_is_refused_in_one_line(build, tmp_path, text):
    build(all_roles(0.1)).stage(tmp_path)()
    (tmp_path / "state" / "trainer.json").write_text(text)
    with pytest.raises(CheckpointError, match="is of another version of rlkit") as caught:
        build(all_roles(0.1)).restore(tmp_path)
    assert "\n" not in str(caught.value)
