"""Replicas answer as one engine does, whatever dies meanwhile."""

from __future__ import annotations

import logging
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlkit.cluster import replica_pool
from rlkit.cluster.requests import Request
from rlkit.errors import ClusterError, ModelError, RolloutError
from rlkit.testing.simulated_replicas import Faults, RowEngine, row_prompts, same, simulate
from rlkit.types import AdapterWeights, SamplingParams

SAMPLING = SamplingParams(max_tokens=9, samples=3, seed=7)


def weights(value: float) -> list[tuple[str, torch.Tensor]]:
    return [("weight", torch.tensor(value))]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 37, 200])
def test_the_answers_are_those_of_one_engine_in_order(count: int, rows: int) -> None:
    prompts = row_prompts(range(100, 100 + rows))
    one = RowEngine(Faults()).generate(prompts, SAMPLING)
    assert same(simulate(count).engine.generate(prompts, SAMPLING), one)


def test_a_row_that_is_asked_twice_gets_further_samples_as_from_one_engine() -> None:
    prompts = row_prompts([row % 7 for row in range(60)])
    assert same(simulate(3).engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))


def test_every_replica_works_and_none_gets_it_all() -> None:
    replicas = simulate(4)
    replicas.engine.generate(row_prompts(range(400)), SAMPLING)
    rows = [sum(map(len, calls)) for calls in replicas.calls()]
    assert sum(rows) == 400
    assert min(rows) >= 60


def test_long_answers_do_not_hold_the_others_up() -> None:
    """The replica with the slow prompts gets fewer of the rest."""
    replicas = simulate(2)
    replicas.transport.started[0].seconds_per_token = 10.0
    replicas.engine.generate(row_prompts(range(300)), SAMPLING)
    first, second = (sum(map(len, calls)) for calls in replicas.calls())
    assert second > 2 * first


def test_a_replica_that_dies_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    replicas = simulate(2, Faults(dies=Counter({50: 1})))
    prompts = row_prompts(range(100))
    with caplog.at_level(logging.INFO, logger="rlkit"):
        rollouts = replicas.engine.generate(prompts, SAMPLING)
    assert same(rollouts, RowEngine(Faults()).generate(prompts, SAMPLING))
    assert len(replicas.transport.started) == 3
    assert replicas.engine.metrics() == {"rollout/replicas": 2.0, "rollout/replica_restarts": 1.0}
    assert "is lost: killed by signal 9; starting it anew (restart 1 of at most 5 in 600 s)" in caplog.text


def test_an_engine_that_is_broken_is_replaced_like_a_dead_one() -> None:
    replicas = simulate(2, Faults(breaks=Counter({3: 1})))
    prompts = row_prompts(range(40))
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))
    assert replicas.pool.num_restarts == 1
    assert len(replicas.transport.alive) == 2


def test_a_prompt_that_no_replica_survives_is_given_up_after_its_attempts() -> None:
    replicas = simulate(2, Faults(dies=Counter({13: 99})), attempts=3)
    with pytest.raises(RolloutError, match="row 13 brought down 3 replicas and was given up: killed by signal 9"):
        replicas.engine.generate(row_prompts(range(40)), SAMPLING)
    assert replicas.pool.num_restarts == 3
    assert len([calls for calls in replicas.calls() if (13,) in calls]) == 1  # the last attempt was made alone


def test_after_a_prompt_was_given_up_the_engine_goes_on_as_before() -> None:
    replicas = simulate(2, Faults(dies=Counter({13: 3})), attempts=3)
    prompts = row_prompts(range(40))
    with pytest.raises(RolloutError):
        replicas.engine.generate(prompts, SAMPLING)
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))


def test_a_refused_prompt_raises_what_the_engine_raised_and_restarts_nothing() -> None:
    replicas = simulate(2, Faults(refuses=Counter({5: 99})))
    with pytest.raises(ModelError, match="row 5 is too long"):
        replicas.engine.generate(row_prompts(range(40)), SAMPLING)
    assert replicas.pool.num_restarts == 0


def test_batches_keep_their_order_and_bad_rows_are_told_apart() -> None:
    faults = Faults(dies=Counter({13: 99}), refuses=Counter({5: 99, 60: 99}))
    replicas = simulate(3, faults, restarts=9)
    batches = [row_prompts(range(start, start + 20)) for start in range(0, 100, 20)]
    done = list(replicas.engine.answer_batches(batches, SAMPLING, keep_going=True))
    assert [[failed.prompt.row_id for failed in batch.failed] for batch in done] == [[5, 13], [], [], [60], []]
    assert [failed.error for failed in done[0].failed] == [
        "row 5 is too long",
        "row 13 brought down 3 replicas and was given up: killed by signal 9",
    ]
    for batch, answered in zip(batches, done, strict=True):
        bad = {failed.prompt.row_id for failed in answered.failed}
        good = batch.select([row for row, prompt in enumerate(batch.prompts) if prompt.row_id not in bad])
        assert answered.rollouts is not None
        assert same(answered.rollouts, RowEngine(Faults()).generate(good, SAMPLING))


def test_a_batch_of_which_nothing_could_be_answered_has_no_rollouts() -> None:
    replicas = simulate(2, Faults(refuses=Counter({0: 99, 1: 99})))
    (done,) = replicas.engine.answer_batches([row_prompts(range(2))], SAMPLING, keep_going=True)
    assert done.rollouts is None
    assert len(done.failed) == 2


def test_the_next_batch_is_begun_before_the_first_is_done() -> None:
    replicas = simulate(2)
    batches = [row_prompts(range(start, start + 4)) for start in range(0, 40, 4)]
    answered = replicas.engine.answer_batches(iter(batches), SAMPLING, keep_going=False)
    next(answered)
    assert {row for calls in replicas.calls() for call in calls for row in call} > set(range(4))


def test_new_weights_reach_every_replica_through_one_copy() -> None:
    replicas = simulate(3)
    replicas.engine.update_weights(weights(2.5), version=4)
    assert len(replicas.transport.shared) == 1
    assert [replica.engine.weight for replica in replicas.transport.started] == [2.5] * 3
    one = RowEngine(Faults())
    one.update_weights(weights(2.5), 4)
    prompts = row_prompts(range(30))
    rollouts = replicas.engine.generate(prompts, SAMPLING)
    assert rollouts.policy_version == 4
    assert same(rollouts, one.generate(prompts, SAMPLING))


@pytest.mark.parametrize("moment", ["answering", "updating"])
def test_a_replica_that_is_started_anew_has_the_present_weights(moment: str) -> None:
    faults = Faults(dies=Counter({3: 1}))
    if moment == "updating":
        faults = Faults(dies_on_update=Counter({1: 1}))
    replicas = simulate(2, faults)
    replicas.engine.update_weights(weights(2.5), version=4)
    prompts = row_prompts(range(30))
    one = RowEngine(Faults())
    one.update_weights(weights(2.5), 4)
    assert same(replicas.engine.generate(prompts, SAMPLING), one.generate(prompts, SAMPLING))
    assert len(replicas.transport.started) == 3
    assert {replica.engine.version for replica in replicas.transport.alive} == {4}


def test_a_wrong_update_is_refused_and_nothing_is_answered_before_a_right_one() -> None:
    replicas = simulate(2)
    with pytest.raises(ModelError, match="unknown name 'wait'"):
        replicas.engine.update_weights([("wait", torch.tensor(1.0))], version=1)
    with pytest.raises(ModelError, match="no whole set of weights"):
        replicas.engine.generate(row_prompts([1]), SAMPLING)
    replicas.engine.update_weights(weights(2.0), version=2)
    assert replicas.engine.generate(row_prompts([1]), SAMPLING).policy_version == 2


def test_memory_is_given_up_and_taken_back_by_all_in_order() -> None:
    replicas = simulate(2)
    replicas.engine.release(["weights", "kv_cache"])
    with pytest.raises(ModelError, match=r"call resume\(\['weights'\]\) before update_weights"):
        replicas.engine.update_weights(weights(2.0), version=1)
    replicas.engine.resume(["weights"])
    with pytest.raises(ModelError, match="no whole set of weights"):
        replicas.engine.generate(row_prompts([1]), SAMPLING)
    replicas.engine.update_weights(weights(2.0), version=1)
    replicas.engine.resume(["kv_cache"])
    replicas.engine.generate(row_prompts([1]), SAMPLING)
    for calls in replicas.calls():
        assert calls[:3] == [("release", "weights", "kv_cache"), ("resume", "weights"), ("resume", "kv_cache")]


def test_a_replica_that_starts_while_memory_is_released_releases_too() -> None:
    replicas = simulate(2, Faults())
    replicas.engine.release(["kv_cache"])
    replicas.faults.dies_on_update[0] = 1
    replicas.engine.update_weights(weights(2.0), version=1)
    assert replicas.transport.started[2].engine.calls == [("release", "kv_cache")]


def test_conversations_stay_on_one_replica_until_the_weights_change() -> None:
    replicas = simulate(3)
    names = [f"c{row}" for row in range(60)]

    def homes() -> dict[int, int]:
        return {row: number for number, calls in enumerate(replicas.calls()) for call in calls if call for row in call}

    replicas.engine.generate(row_prompts(range(60), conversations=names), SAMPLING)
    first = homes()
    assert len(set(first.values())) == 3
    for calls in replicas.calls():
        calls.clear()
    replicas.engine.generate(row_prompts(reversed(range(60)), conversations=names[::-1]), SAMPLING)
    assert homes() == first
    replicas.engine.update_weights(weights(2.0), version=1)
    assert not any(replicas.pool.routes._replica_of)


@pytest.mark.parametrize("restarts", [0, 5])
def test_conversations_of_a_dead_replica_go_on_elsewhere(restarts: int) -> None:
    replicas = simulate(2, restarts=restarts)
    names = [f"c{row}" for row in range(30)]
    prompts = row_prompts(range(30), conversations=names)
    replicas.engine.generate(prompts, SAMPLING)
    replicas.faults.dies[4] = 1
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("fault", ["dies", "breaks"])
@pytest.mark.parametrize("victim", range(12))
def test_later_turns_of_a_lost_replica_s_conversations_go_on_elsewhere(victim: int, fault: str, count: int) -> None:
    """From the second turn on the samples of a prompt are requests of their own, all of one conversation."""
    replicas = simulate(count)
    first = row_prompts(range(100, 103), conversations=["a", "b", "c"])
    replicas.engine.generate(first, SamplingParams(max_tokens=9, samples=4, seed=7))
    getattr(replicas.faults, fault)[victim] = 1
    turn = SamplingParams(max_tokens=9, samples=1, seed=7)
    prompts = row_prompts(range(12), conversations=["abc"[row // 4] for row in range(12)])
    assert same(replicas.engine.generate(prompts, turn), RowEngine(Faults()).generate(prompts, turn))
    assert replicas.pool.num_restarts == 1


def test_what_no_replica_may_answer_ends_the_run_instead_of_waiting_for_ever() -> None:
    replicas = simulate(2)
    prompts = row_prompts(range(2), conversations=["here", "nowhere"])
    replicas.pool.routes.note(Request(0, (1,), 1, "nowhere"), 99)
    with pytest.raises(ClusterError, match="all 2 replicas are free, but none of them may answer what is waiting"):
        replicas.engine.generate(prompts, SAMPLING)


def test_when_the_last_replica_is_gone_the_error_names_the_cause() -> None:
    faults = Faults(dies=Counter(dict.fromkeys(range(40), 9)))
    replicas = simulate(2, faults, restarts=1, attempts=5)
    with pytest.raises(ClusterError) as caught:
        replicas.engine.generate(row_prompts(range(40)), SAMPLING)
    assert str(caught.value).startswith("no replica is left: the last one, replica ")
    assert "killed by signal 9" in str(caught.value)
    assert "1 of at most 1 in 600 s; cluster.max_restarts" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_restarts_the_others_go_on() -> None:
    replicas = simulate(2, Faults(dies=Counter({3: 1})), restarts=0)
    prompts = row_prompts(range(40))
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))
    assert replicas.engine.metrics()["rollout/replicas"] == 1.0


def test_a_replica_that_dies_while_it_starts_is_started_again() -> None:
    replicas = simulate(2, Faults(dies_at_start=Counter({1: 2})))
    assert len(replicas.transport.started) == 4
    assert len(replicas.engine.replicas()) == 2


def test_replicas_that_cannot_all_start_leave_nothing_behind() -> None:
    faults = Faults(refuses_to_start="no such kernel")
    with pytest.raises(ModelError, match="no such kernel"):
        simulate(2, faults)
    assert faults.closed == 1


def test_a_replica_that_hangs_counts_as_dead_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(replica_pool, "time", SimpleNamespace(monotonic=lambda: now))
    replicas = simulate(2, Faults(hangs=Counter({0: 1})), timeout_s=30.0)
    wait = replicas.transport.wait

    def wait_in_vain(calls: Any, timeout_s: float) -> Any:
        nonlocal now
        done = wait(calls, timeout_s)
        now += 0.0 if done else timeout_s
        return done

    monkeypatch.setattr(replicas.transport, "wait", wait_in_vain)
    prompts = row_prompts(range(40))
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))
    assert replicas.pool.num_restarts == 1


def test_a_replica_without_a_sign_of_life_counts_as_dead_and_its_prompts_go_to_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replicas = simulate(2, Faults(freezes=Counter({0: 1})), silence_s=0.01)
    prompts = row_prompts(range(40))
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))
    assert replicas.pool.num_restarts == 1
    assert "no sign of life for 0.01 s (cluster.silence_timeout_s); starting it anew" in caplog.text


def test_a_replica_that_hangs_but_gives_signs_of_life_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer is no fault: only another limit, or its own end, ends it."""
    replicas = simulate(1, Faults(hangs=Counter({0: 1})), silence_s=0.01)
    looked = 0
    wait = replicas.transport.wait

    def wait_a_little(calls: Any, timeout_s: float) -> Any:
        nonlocal looked
        looked += 1
        time.sleep(0.002)
        if looked == 20:
            for call in calls:
                call.ends_at = replicas.transport.now
        return wait(calls, timeout_s)

    monkeypatch.setattr(replicas.transport, "wait", wait_a_little)
    prompts = row_prompts(range(4))
    assert same(replicas.engine.generate(prompts, SAMPLING), RowEngine(Faults()).generate(prompts, SAMPLING))
    assert replicas.pool.num_restarts == 0


def test_a_replica_that_falls_silent_over_new_weights_is_started_with_them() -> None:
    replicas = simulate(2, Faults(freezes_on_update=Counter({1: 1})), silence_s=0.01)
    replicas.engine.update_weights(weights(2.5), version=4)
    assert replicas.pool.num_restarts == 1
    assert {replica.engine.weight for replica in replicas.transport.alive} == {2.5}


def test_answers_of_old_weights_are_never_taken() -> None:
    replicas = simulate(2)
    replicas.transport.started[0].engine.version = 3
    with pytest.raises(RolloutError, match="a replica answered with weights of version 3, not 0"):
        replicas.engine.generate(row_prompts(range(40)), SAMPLING)


def test_a_call_that_was_broken_off_leaves_nothing_behind() -> None:
    replicas = simulate(3, Faults(refuses=Counter({0: 1})))
    prompts = row_prompts(range(90))
    with pytest.raises(ModelError):
        replicas.engine.generate(prompts, SAMPLING)
    other = row_prompts(range(200, 290))
    assert same(replicas.engine.generate(other, SAMPLING), RowEngine(Faults()).generate(other, SAMPLING))


def test_closing_twice_is_harmless_and_closed_replicas_answer_nothing() -> None:
    replicas = simulate(2)
    replicas.engine.close()
    replicas.engine.close()
    assert replicas.transport.closed == 1
    assert not replicas.transport.alive
    with pytest.raises(ClusterError, match="closed"):
        replicas.engine.generate(row_prompts([1]), SAMPLING)


def adapter(product: float) -> AdapterWeights:
    return AdapterWeights(0.5, {"weight": (torch.tensor([[2.0]]), torch.tensor([[product]]))})


def test_every_replica_gets_an_adapter_and_nothing_else_travels() -> None:
    replicas = simulate(3)
    engine, prompts = replicas.engine, row_prompts(range(40))
    assert engine.takes_adapters
    engine.update_weights(weights(2.0), 1)
    shared = len(replicas.transport.shared)
    engine.update_adapter(adapter(3.0), 2)
    (chunk,) = replicas.transport.shared[shared:]
    assert [place.name for place in chunk.places] == ["weight.lora_A", "weight.lora_B"]
    alone = RowEngine(Faults())
    alone.update_weights(weights(5.0), 2)
    assert same(engine.generate(prompts, SAMPLING), alone.generate(prompts, SAMPLING))
    engine.update_weights(weights(5.0), 2)
    assert same(engine.generate(prompts, SAMPLING), alone.generate(prompts, SAMPLING))


@pytest.mark.parametrize(("dies_over_row", "dies_on_update"), [({7: 1}, {}), ({}, {1: 1})])
@pytest.mark.parametrize("with_weights", [False, True])
def test_a_replica_that_is_started_anew_has_base_and_adapter(
    dies_over_row: dict[int, int], dies_on_update: dict[int, int], with_weights: bool
) -> None:
    replicas = simulate(2)
    if with_weights:
        replicas.engine.update_weights(weights(2.0), 1)
    replicas.faults.dies.update(dies_over_row)
    replicas.faults.dies_on_update.update(dies_on_update)
    replicas.engine.update_adapter(adapter(3.0), 2)
    prompts = row_prompts(range(40))
    alone = RowEngine(Faults())
    alone.update_weights(weights((2.0 if with_weights else 1.0) + 3.0), 2)
    assert same(replicas.engine.generate(prompts, SAMPLING), alone.generate(prompts, SAMPLING))
    assert replicas.pool.num_restarts == 1


def test_whole_weights_take_the_adapter_s_place_in_replicas_that_start_later_too() -> None:
    replicas = simulate(2)
    replicas.engine.update_adapter(adapter(3.0), 1)
    replicas.engine.update_weights(weights(5.0), 2)
    replicas.faults.dies[7] = 1
    alone = RowEngine(Faults())
    alone.update_weights(weights(5.0), 2)
    prompts = row_prompts(range(40))
    assert same(replicas.engine.generate(prompts, SAMPLING), alone.generate(prompts, SAMPLING))
    assert replicas.transport.started[2].engine.adapter == 0.0


def test_an_adapter_that_is_refused_leaves_nothing_to_answer_with() -> None:
    replicas = simulate(2)
    wrong = AdapterWeights(1.0, {"other": (torch.ones(1, 1), torch.ones(1, 1))})
    with pytest.raises(ModelError, match="unknown layers other"):
        replicas.engine.update_adapter(wrong, 1)
    with pytest.raises(ModelError, match="no whole set of weights"):
        replicas.engine.generate(row_prompts([1]), SAMPLING)
    replicas.engine.update_weights(weights(1.0), 2)
    assert replicas.engine.generate(row_prompts([1]), SAMPLING).policy_version == 2
