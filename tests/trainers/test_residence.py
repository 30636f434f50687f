"""Models that wait in host memory: who is on the device when, in which order, and that nobody computes with one that is away."""

from __future__ import annotations

import pytest

from rlkit.algos.objective import ValueObjective
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeEngine, FakeMovingReference
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.residence import Residence
from rlkit.trainers.shared_trunk import SharedTrunk

COMPUTING = (
    "compute_log_probs",
    "compute_values",
    "compute_log_probs_and_values",
    "update_policy",
    "update_values",
    "update_jointly",
    "update_head",
)
ANYWHERE = ("export_weights", "update_weights")


def watched(kind, name, seen):
    """A fake of class `kind` that notes what is asked of it, and refuses to compute, or to be moved, where it cannot."""

    def noting(method):
        def call(self, *arguments, **keywords):
            if method in COMPUTING:
                assert self.is_here, f"{name}.{method} while it is away"
            seen.append(f"{name}.{method}")
            return getattr(super(Watched, self), method)(*arguments, **keywords)

        return call

    def moving(method, *, to_here):
        def call(self):
            assert self.is_here is not to_here, f"{name}.{method} twice"
            self.is_here = to_here
            seen.append(f"{name}.{method}")

        return call

    methods = {method: noting(method) for method in COMPUTING + ANYWHERE if hasattr(kind, method)}
    moves = {"onload": moving("onload", to_here=True), "offload": moving("offload", to_here=False)}
    Watched = type(f"Watched{kind.__name__}", (kind,), {**methods, **moves, "is_here": False})
    return Watched()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def engine(seen):
    class Watched(FakeEngine):
        def release(self, parts):
            seen.append("engine.release")

        def resume(self, parts):
            seen.append("engine.resume")

        def generate(self, prompts, sampling):
            seen.append("engine.generate")
            return super().generate(prompts, sampling)

    return Watched()


def run(build_loop, models, residence, engine, **changes):
    parts = {**models, "engine": engine, "handover": ("kv_cache",), "residence": Residence(residence)}
    return build_loop(parts=parts, **{"steps": 1, **changes}).fit()


START = ["actor.onload", "actor.export_weights", "actor.offload", "engine.resume"]
LOG_PROBS = ["actor.onload", "actor.compute_log_probs", "actor.offload"]
REFERENCE = ["reference.onload", "reference.compute_log_probs", "reference.offload"]
VALUES = ["critic.onload", "critic.compute_values", "critic.offload"]
UPDATES = ["critic.onload", "critic.update_values", "critic.offload", "actor.onload", "actor.update_policy"]
NEW_WEIGHTS = ["actor.export_weights", "actor.offload", "engine.resume"]
CHECKPOINT = ["engine.release", "engine.resume"]


def test_each_model_is_there_for_its_own_work_only_and_the_engine_gives_way_first(build_loop, seen, engine):
    models = {
        "actor": watched(FakeActor, "actor", seen),
        "critic": watched(FakeCritic, "critic", seen),
        "reference": watched(FakeActor, "reference", seen),
    }
    run(build_loop, models, models, engine, kl_coefficient=0.1)
    step = ["engine.generate", "engine.release", *LOG_PROBS, *REFERENCE, *VALUES, *UPDATES, *NEW_WEIGHTS]
    assert seen == [*START, *step, *CHECKPOINT, "engine.release"]


def test_every_model_is_away_whenever_the_engine_has_its_memory(build_loop, seen, engine):
    models = {
        "actor": watched(FakeActor, "actor", seen),
        "critic": watched(FakeCritic, "critic", seen),
        "reference": watched(FakeActor, "reference", seen),
    }
    run(
        build_loop, models, models, engine,
        steps=4, epochs=2, mini_batch_samples=8, validation=4, validate_every=1, checkpoint_every=2,
    )  # fmt: skip
    here, engine_has_memory = set(), False
    assert seen.count("engine.generate") == 4 + 5
    for event in seen:
        name, _, what = event.partition(".")
        if what in ("onload", "offload"):
            (here.add if what == "onload" else here.discard)(name)
        engine_has_memory = {"engine.resume": True, "engine.release": False}.get(event, engine_has_memory)
        if event == "engine.generate":
            assert engine_has_memory
        assert not (here and engine_has_memory), event
        assert len(here) <= 1, event
    assert not engine_has_memory  # the model is exported next


def test_the_actor_is_there_for_the_new_weights_while_only_the_critic_warms_up(build_loop, seen, engine):
    models = {"actor": watched(FakeActor, "actor", seen), "critic": watched(FakeCritic, "critic", seen)}
    run(build_loop, models, models, engine, critic_warmup_iterations=1)
    learning = seen[seen.index("critic.update_values") :]
    assert learning[:6] == ["critic.update_values", "critic.offload", "actor.onload", *NEW_WEIGHTS]


def test_a_reference_that_follows_comes_beside_the_actor_when_it_is_due(build_loop, seen, engine):
    reference = watched(FakeMovingReference, "reference", seen)
    models = {"actor": watched(FakeActor, "actor", seen), "reference": reference}
    course = {"reference_course": ReferenceCourse(reference, every=2)}
    run(build_loop, {**models, **course}, models, engine, estimator="grpo", steps=2)
    followed = [event for event in seen if event in ("reference.onload", "reference.update_weights")]
    assert followed == ["reference.onload"] * 3 + ["reference.update_weights"]
    last = seen[seen.index("reference.update_weights") - 3 :]
    assert last[:3] == ["actor.update_policy", "reference.onload", "actor.export_weights"]
    assert last[4:8] == ["reference.offload", *NEW_WEIGHTS]


def test_an_adapter_s_reference_moves_with_the_actor_and_not_away_from_under_it(build_loop, seen, engine):
    actor, reference = watched(FakeActor, "actor", seen), FakeActor()
    moved = {"actor": actor, "reference": actor}
    run(build_loop, {"actor": actor, "reference": reference}, moved, engine, estimator="grpo")
    assert seen[4:] == [
        "engine.generate", "engine.release", *LOG_PROBS, "actor.onload", "actor.update_policy", *NEW_WEIGHTS, *CHECKPOINT,
        "engine.release",
    ]  # fmt: skip


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_shared_trunk_moves_once_for_both_of_its_roles(build_loop, seen, engine, warmup):
    model = watched(FakeActorCritic, "trunk", seen)
    trunk = SharedTrunk(model, ValueObjective(10.0), 0.1)
    models = {"actor": trunk, "critic": trunk}
    run(build_loop, models, models, engine, critic_warmup_iterations=warmup)
    update = ["trunk.update_head" if warmup else "trunk.update_jointly"]
    asked = ["trunk.onload", "trunk.offload"]
    given = ["trunk.export_weights", "trunk.offload", "engine.resume"]
    step = ["engine.generate", "engine.release", *asked, "trunk.onload", *update, *given]
    assert [event for event in seen[4:] if not event.startswith("trunk.compute")] == [
        *step,
        *CHECKPOINT,
        "engine.release",
    ]
    assert seen.index("trunk.compute_log_probs_and_values") == 7


def test_a_role_that_is_not_among_them_stays(build_loop, seen, engine):
    actor, critic = watched(FakeActor, "actor", seen), watched(FakeCritic, "critic", seen)
    critic.is_here = True
    run(build_loop, {"actor": actor, "critic": critic}, {"actor": actor}, engine)
    assert "critic.update_values" in seen
    assert not {"critic.onload", "critic.offload"} & set(seen)


def test_without_any_nothing_moves_and_the_engine_takes_its_memory_before_the_weights(build_loop, seen, engine):
    actor = watched(FakeActor, "actor", seen)
    actor.is_here = True
    run(build_loop, {"actor": actor}, {}, engine, estimator="grpo")
    assert seen == [
        "engine.resume", "actor.export_weights", "engine.generate", "engine.release", "actor.compute_log_probs",
        "actor.update_policy", "engine.resume", "actor.export_weights",
    ]  # fmt: skip


def test_the_numbers_are_the_same(build_loop):
    def weights(moves):
        models = {"actor": FakeActor(), "critic": FakeCritic(), "reference": FakeActor(log_odds=-1.0)}
        residence = Residence(models if moves else None)
        loop = build_loop(parts={**models, "residence": residence}, steps=6, kl_coefficient=0.1).fit()
        timed = ("time", "memory", "perf", "throughput")
        last = {name: value for name, value in loop.recorder.metrics[6].items() if not name.startswith(timed)}
        del last["rollout/tokens_per_s"]
        return models["actor"].parameter.item(), models["critic"].parameter.item(), last

    assert weights(moves=True) == weights(moves=False)
