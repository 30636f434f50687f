"""The loop with actor and critic on one network: who learns when, and from what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlkit.algos.objective import ValueObjective
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.trainers.clock import StageClock
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.shared_trunk import SharedTrunk


@pytest.fixture
def shared(build_loop):
    """Function: (loop, model) with a shared trunk; the weight of the value loss may be given."""

    def build(*, value_weight=0.1, parts=None, **changes):
        model = FakeActorCritic()
        trunk = SharedTrunk(model, ValueObjective(10.0), value_weight)
        settings = {"value_objective": ValueObjective(10.0), "actor": trunk, "critic": trunk, **(parts or {})}
        return build_loop(estimator="gae", parts=settings, **changes), model

    return build


def test_policy_and_values_are_learned_by_the_same_updates(shared):
    loop, model = shared(steps=20)
    loop.fit()
    metrics = loop.recorder.metrics
    assert model.parameter.item() > 0.8
    assert model.updates == 20
    assert metrics[20]["reward/mean"] > metrics[1]["reward/mean"]
    assert metrics[20]["critic/value_mean"] == pytest.approx(metrics[20]["reward/mean"], abs=0.2)
    assert metrics[20]["critic/loss"] < metrics[1]["critic/loss"]


def test_the_value_loss_reaches_the_trunk_by_its_weight(shared):
    ends = []
    for weight in (1e-6, 1.0):
        loop, model = shared(value_weight=weight, steps=3)
        loop.fit()
        ends.append(model.parameter.item())
    assert abs(ends[0] - ends[1]) > 0.01


def test_no_stage_of_the_critic_s_own_after_warm_up(shared):
    loop, _ = shared(steps=3, critic_warmup_iterations=2)
    loop.fit()
    stages = [("time/update_critic_s" in m, "time/update_actor_s" in m) for m in loop.recorder.metrics.values()]
    assert stages == [(True, False), (True, False), (False, True)]


def test_only_the_head_learns_in_warm_up(shared):
    loop, model = shared(steps=2, critic_warmup_iterations=2, epochs=3)
    loop.fit()
    assert model.parameter.item() == 0.0
    assert model.updates == 0
    assert model.score.item() > 0.2
    metrics = loop.recorder.metrics[2]
    assert "actor/grad_norm" not in metrics
    assert metrics["critic/loss"] < loop.recorder.metrics[1]["critic/loss"]


def test_the_metrics_are_those_of_an_own_critic(shared, build_loop):
    loop, _ = shared(steps=1)
    own = build_loop(steps=1).fit().recorder.metrics[1]
    found = loop.fit().recorder.metrics[1]
    timing = ("time/", "time_per_token/")
    assert {name for name in own if not name.startswith(timing)} == {
        name for name in found if not name.startswith(timing)
    }


def test_one_forward_pass_gives_log_probs_and_values(shared):
    loop, model = shared()
    answered, _ = loop.trainer.collect(StageClock())
    judged = answered.judged()
    experience, _ = loop.trainer.prepare(
        judged, None, loop.trainer.ask_models(judged.rollouts, StageClock()), StageClock()
    )
    assert model.forwards == 1
    assert experience.old_values is not None


def test_bypass_asks_for_values_only(shared):
    loop, model = shared(parts={"correction": RolloutCorrection(bypass=True)})
    answered, _ = loop.trainer.collect(StageClock())
    judged = answered.judged()
    experience, _ = loop.trainer.prepare(
        judged, None, loop.trainer.ask_models(judged.rollouts, StageClock()), StageClock()
    )
    assert model.forwards == 1
    assert experience.old_values is not None
    assert experience.old_log_probs.values.equal(judged.rollouts.rollout_log_probs.values)


def test_the_engine_gets_the_policy_without_the_head(shared):
    loop, model = shared(steps=2)
    loop.fit()
    assert loop.engine.log_odds == model.parameter.item()
    assert [name for name, _ in loop.trainer.parts.actor.export_weights()] == ["log_odds"]


def test_a_restored_actor_critic_goes_on_alike(shared, tmp_path):
    loop, model = shared(steps=3)
    loop.fit()
    answered, _ = loop.trainer.collect(StageClock())
    judged = answered.judged()
    experience, _ = loop.trainer.prepare(
        judged, None, loop.trainer.ask_models(judged.rollouts, StageClock()), StageClock()
    )
    folder = tmp_path / "saved"
    folder.mkdir()
    loop.trainer.parts.actor.save(folder)
    restored = replace(loop.trainer.parts.actor, model=FakeActorCritic())
    restored.load(folder)
    for trunk in (loop.trainer.parts.actor, restored):
        trunk.update_policy(experience, loop.trainer.parts.policy_objective, temperature=1.0)
    other = restored.model
    assert (other.parameter.item(), other.score.item(), other.updates) == (
        model.parameter.item(),
        model.score.item(),
        model.updates,
    )
