"""The PPO loop on fakes: it learns, in the right order, with the right batches, and stops cleanly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rlkit.config.algorithm import AlgorithmSection
from rlkit.errors import TrainingError
from rlkit.pipelines.objectives import build_policy_objective
from rlkit.plugin import PluginKind
from rlkit.plugin.discovery import plugin_names
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeScorer
from rlkit.trainers.clock import StageClock
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.ppo_state import PPOState


def objective(name):
    section = AlgorithmSection(policy_loss=name, loss_aggregation="seq_mean_token_mean")
    return build_policy_objective(section, horizon=2)


def with_the_wrong_sign(loop):
    """The loop with every advantage turned round."""
    settings = loop.trainer.parts.advantages

    def negated(inputs):
        advantages, returns = settings.estimator(inputs)
        return -advantages, returns

    loop.trainer.parts = replace(loop.trainer.parts, advantages=replace(settings, estimator=negated))
    return loop


@pytest.mark.parametrize("estimator", ["gae", "grpo"])
@pytest.mark.parametrize("name", plugin_names(PluginKind.POLICY_LOSS))
def test_every_policy_loss_learns_and_with_the_wrong_sign_unlearns(build_loop, estimator, name):
    learned = build_loop(estimator=estimator, steps=12, parts={"policy_objective": objective(name)}).fit()
    wrong = with_the_wrong_sign(build_loop(estimator=estimator, steps=12, parts={"policy_objective": objective(name)}))
    assert learned.actor.parameter.item() > 0.8
    assert wrong.fit().actor.parameter.item() < -0.8


@pytest.mark.parametrize("estimator", plugin_names(PluginKind.ADVANTAGE_ESTIMATOR))
def test_the_policy_learns_what_is_rewarded(build_loop, estimator):
    loop = build_loop(estimator=estimator, steps=12).fit()
    # grpo_passk learns from groups with a single best answer only, which are few when answers are right or wrong.
    assert loop.actor.parameter.item() > (0.2 if estimator == "grpo_passk" else 0.8)
    assert loop.recorder.metrics[12]["reward/mean"] > loop.recorder.metrics[1]["reward/mean"]


def test_the_critic_learns_the_mean_reward(build_loop):
    loop = build_loop(steps=20, parts={"actor": FakeActor(lr=0.0)}).fit()
    assert loop.critic.parameter.item() == pytest.approx(0.5, abs=0.1)


def test_the_engine_gives_way_to_the_actor_and_answers_with_its_new_weights(build_loop):
    loop = build_loop(steps=2, parts={"handover": ("kv_cache",)}).fit()
    once = ["generate", "release", "resume", "update_weights"]
    assert loop.engine.calls == ["resume", "update_weights", *once, *once]
    assert loop.engine.log_odds == loop.actor.parameter.item()
    assert loop.engine.version == loop.trainer.state.policy_version == 2


def test_events_come_in_order_and_each_step_once(build_loop):
    loop = build_loop(validation=8, validate_every=2, checkpoint_every=2).fit()
    assert loop.recorder.events == [
        ("validation", 0),
        *(("rollouts", 1), ("step", 1)),
        *(("rollouts", 2), ("step", 2), ("validation", 2), ("checkpoint", 2)),
        *(("rollouts", 3), ("step", 3)),
        *(("rollouts", 4), ("step", 4), ("validation", 4), ("checkpoint", 4)),
    ]


def test_validation_is_greedy_and_counts_every_prompt(build_loop):
    loop = build_loop(validation=8, steps=6).fit()
    assert loop.recorder.validations[0]["validation/score"] == 0.0  # log-odds 0: not more likely than not
    assert loop.recorder.validations[6]["validation/score"] == 1.0
    assert loop.recorder.validations[6]["validation/prompts"] == 8


def test_every_epoch_sees_every_sample_once_in_mini_batches(build_loop):
    loop = build_loop(steps=1, epochs=3, mini_batch_samples=8).fit()
    assert loop.actor.batch_sizes == [8] * 12
    assert loop.critic.updates == 12


def test_epochs_are_shuffled_each_in_its_own_way_and_repeatably(build_loop):
    loop = build_loop(steps=1, epochs=2, mini_batch_samples=16)
    answered, _ = loop.trainer.collect(StageClock())
    judged = answered.judged()
    experience, _ = loop.trainer.prepare(
        judged, None, loop.trainer.ask_models(judged.rollouts, StageClock()), StageClock()
    )

    def rows(batches):
        return [
            [(p.row_id, g) for p, g in zip(b.rollouts.prompts, b.rollouts.group_ids.tolist(), strict=True)]
            for b in batches
        ]

    first, again = rows(loop.trainer.mini_batches(experience)), rows(loop.trainer.mini_batches(experience))
    assert first == again
    assert sorted(first[0] + first[1]) == sorted(first[2] + first[3]) == sorted(rows([experience])[0])
    assert first[0] + first[1] != first[2] + first[3]


def test_only_the_critic_learns_while_it_warms_up(build_loop):
    loop = build_loop(steps=3, critic_warmup_iterations=2).fit()
    assert loop.critic.updates == 3
    assert loop.actor.updates == 1


def test_a_stop_request_ends_after_the_step_and_saves(build_loop):
    loop = build_loop(steps=100, validation=4, validate_first=False)
    original = loop.trainer.summarise

    def stop_in_step_two(*arguments):
        loop.stop.requested = loop.trainer.state.step >= 2
        return original(*arguments)

    loop.trainer.summarise = stop_in_step_two
    loop.fit()
    assert loop.recorder.events[-1] == ("checkpoint", 2)
    assert ("validation", 2) not in loop.recorder.events
    assert loop.store.newest_whole()[0] == 2


def test_gradients_that_stay_broken_end_the_run(build_loop):
    class Broken(FakeActor):
        def step(self):
            super().step()
            return math.nan

    loop = build_loop(steps=100, mini_batch_samples=8, parts={"actor": Broken()})
    with pytest.raises(TrainingError, match=r"20 optimizer steps in a row .* lower actor\.lr"):
        loop.fit()


def test_a_critic_whose_gradients_stay_broken_ends_the_run_too(build_loop):
    class Broken(FakeCritic):
        def step(self):
            super().step()
            return math.nan

    loop = build_loop(steps=100, mini_batch_samples=8, parts={"critic": Broken()})
    with pytest.raises(TrainingError, match=r"non-finite critic gradients \(step 5\); lower critic\.lr"):
        loop.fit()


def test_the_metrics_of_a_step_are_finite_and_named_by_area(build_loop):
    metrics = build_loop(steps=1).fit().recorder.metrics[1]
    assert all(math.isfinite(value) for value in metrics.values())
    assert {name.partition("/")[0] for name in metrics} >= {
        "actor",
        "critic",
        "reward",
        "response",
        "rollout",
        "time",
        "memory",
    }
    assert metrics["rollout/log_prob_difference_max"] == pytest.approx(0, abs=1e-6)


def test_remax_answers_each_prompt_greedily_too_and_compares_with_that(build_loop):
    loop = build_loop(estimator="remax", steps=1, validate_first=False).fit()
    assert loop.engine.calls.count("generate") == 2
    metrics = loop.recorder.metrics[1]
    assert metrics["reward/greedy_mean"] == 0.0  # log-odds 0: not more likely than not
    plain = build_loop(estimator="grpo", steps=1).fit()
    assert "reward/greedy_mean" not in plain.recorder.metrics[1]


def test_dynamic_sampling_replaces_prompts_that_teach_nothing(build_loop):
    loop = build_loop(estimator="grpo", steps=1, sampling_rounds=20)
    loop.engine.log_odds = 2.0  # right seven times in eight: many groups are all right
    answered, metrics = loop.trainer.collect(StageClock())
    judged = answered.judged()
    groups = judged.groups()
    assert [len(rows) for rows in groups] == [4] * 8
    assert all(judged.is_informative(rows) for rows in groups)
    assert judged.rollouts.group_ids.tolist() == [group for group in range(8) for _ in range(4)]
    assert metrics["rollout/rounds"] > 1
    assert metrics["rollout/uninformative_fraction"] > 0


def test_dynamic_sampling_is_bounded_and_fills_up_with_what_there_is(build_loop):
    sure = FakeActor(log_odds=30.0)  # always right: nothing to teach, ever
    loop = build_loop(estimator="grpo", steps=2, sampling_rounds=3, parts={"actor": sure}).fit()
    assert loop.engine.calls.count("generate") == 6
    metrics = loop.recorder.metrics[1]
    assert (metrics["rollout/rounds"], metrics["rollout/uninformative_fraction"]) == (3, 1)
    assert sure.batch_sizes == [32, 32]


def test_without_dynamic_sampling_every_prompt_is_asked_once(build_loop):
    loop = build_loop(estimator="grpo", steps=3).fit()
    assert loop.engine.calls.count("generate") == 3
    assert "rollout/rounds" not in loop.recorder.metrics[1]


def test_updates_end_early_once_the_policy_has_gone_far_enough(build_loop):
    eager, held = FakeActor(lr=5.0), FakeActor(lr=5.0)
    build_loop(estimator="grpo", steps=1, epochs=10, parts={"actor": eager}).fit()
    build_loop(estimator="grpo", steps=1, epochs=10, target_kl=0.01, parts={"actor": held}).fit()
    assert eager.updates == 10
    assert 1 < held.updates < 10


def test_the_kl_coefficient_follows_its_target_and_is_part_of_the_state(build_loop):
    def run(target):
        settings = {"kl_coefficient": 0.1, "kl_target": target, "kl_horizon": 100.0}
        return build_loop(steps=4, parts={"reference": FakeActor(log_odds=-2.0)}, **settings).fit()

    near, far = run(100.0).trainer.state, run(0.01).trainer.state
    assert near.kl_coefficient < 0.1 < far.kl_coefficient
    restored = PPOState()
    restored.restore(far.as_json())
    assert restored == far


def test_bypass_trains_without_the_actors_forward_pass(build_loop):
    class Deaf(FakeActor):
        def compute_log_probs(self, rollouts, **asked):
            raise AssertionError("nobody should ask")

    actor = Deaf()
    build_loop(estimator="grpo", steps=12, parts={"actor": actor, "correction": RolloutCorrection(bypass=True)}).fit()
    assert actor.parameter.item() > 1.0


class Slow:
    """A scorer that notes when it is asked, and when it is waited for."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def begin(self, samples):
        self.seen.append("begin")
        verdicts = FakeScorer().begin(samples)

        class Waited:
            def result(judging):
                self.seen.append("wait")
                return verdicts.result()

            def report(judging):
                return verdicts.report()

        return Waited()


class NotingActor(FakeActor):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def compute_log_probs(self, rollouts, **options):
        self.seen.append("log-probs")
        return super().compute_log_probs(rollouts, **options)


def test_the_models_are_asked_while_the_answers_are_judged(build_loop):
    seen: list[str] = []
    build_loop(parts={"scorer": Slow(seen), "actor": NotingActor(seen)}, steps=1).fit()
    assert seen == ["begin", "log-probs", "wait"]


def test_dynamic_sampling_waits_for_the_verdicts_of_each_round(build_loop):
    seen: list[str] = []
    loop = build_loop(parts={"scorer": Slow(seen)}, estimator="grpo", steps=1, sampling_rounds=2)
    loop.fit()
    assert seen[:2] == ["begin", "wait"]
    assert seen.count("begin") <= 2
    assert "reward/judging_s" in loop.recorder.metrics[1]
