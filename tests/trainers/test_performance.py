from __future__ import annotations

import pytest
import torch

from rlkit.cluster.peak_flops import PeakFlops
from rlkit.models.flops import MatmulShape
from rlkit.trainers import clock as clock_module
from rlkit.trainers.clock import StageClock
from rlkit.trainers.performance import WorkMeter
from rlkit.types import Prompt, Ragged, Rollouts, SupervisedBatch

POLICY = MatmulShape(layer_weights=100, head_weights=20, attention_width=8)
CRITIC = MatmulShape(layer_weights=100, head_weights=4, attention_width=8)


def rollouts() -> Rollouts:
    """Rows of 2 + 3 and 1 + 2 tokens."""
    responses = Ragged.from_rows([[1, 2, 3], [4, 5]], dtype=torch.int64)
    return Rollouts(
        prompt_ids=Ragged.from_rows([[7, 8], [9]], dtype=torch.int64),
        response_ids=responses,
        response_mask=responses.with_values(torch.ones(5, dtype=torch.bool)),
        rollout_log_probs=None,
        group_ids=torch.tensor([0, 1]),
        finish_reasons=("stop", "stop"),
        policy_version=0,
        prompts=(Prompt(row_id=0, text=""), Prompt(row_id=1, text="")),
    )


def work(clock: StageClock, stage: str) -> tuple[int, float]:
    return clock.stages()[stage].tokens, clock.stages()[stage].flops


def test_generation_puts_every_token_but_the_last_through_the_model():
    clock = StageClock()
    WorkMeter(POLICY).note_rollout(clock, rollouts())
    # rows of 4 and 2 tokens: 10 + 3 pairs
    assert work(clock, "rollout") == (5, 2 * (100 * 6 + 20 * 5) + 4 * 8 * 13)


def test_log_probs_cost_a_forward_pass_of_every_model_that_is_asked():
    policy = 2 * (100 * 8 + 20 * 5) + 4 * 8 * (15 + 6)
    critic = 2 * (100 * 8 + 4 * 5) + 4 * 8 * (15 + 6)
    for meter, asks_actor, expected in (
        (WorkMeter(POLICY), True, policy),
        (WorkMeter(POLICY, POLICY, CRITIC), True, 2 * policy + critic),
        (WorkMeter(POLICY, None, CRITIC), False, critic),
    ):
        clock = StageClock()
        meter.note_log_probs(clock, rollouts(), asks_actor=asks_actor)
        assert work(clock, "log_probs") == (8, expected)


def test_a_head_on_the_policys_trunk_costs_the_trunk_where_nothing_else_runs_it():
    head = MatmulShape(layer_weights=0, head_weights=4, attention_width=0)
    meter, trunk = WorkMeter(POLICY, None, head, trunk_is_shared=True), 2 * 100 * 8 + 4 * 8 * (15 + 6)
    for asks_actor, expected in ((True, trunk + 2 * (20 + 4) * 5), (False, trunk + 2 * 4 * 5)):
        clock = StageClock()
        meter.note_log_probs(clock, rollouts(), asks_actor=asks_actor)
        assert work(clock, "log_probs") == (8, expected)
    warming_up = StageClock()
    meter.note_update(warming_up, "critic", rollouts())
    assert work(warming_up, "update_critic") == (8, trunk + 3 * 2 * 4 * 5)


def test_updates_cost_three_passes_and_epochs_add_up():
    clock, meter = StageClock(), WorkMeter(POLICY, None, CRITIC)
    for _ in range(2):
        meter.note_update(clock, "actor", rollouts())
    meter.note_update(clock, "critic", rollouts())
    assert work(clock, "update_actor") == (16, 2 * 3 * (2 * (800 + 100) + 4 * 8 * 21))
    assert work(clock, "update_critic") == (8, 3 * (2 * (800 + 20) + 4 * 8 * 21))


def test_a_supervised_update_predicts_loss_tokens_only():
    tokens = Ragged.from_rows([[1, 2, 3], [4, 5]], dtype=torch.int64)
    mask = tokens.with_values(torch.tensor([False, True, True, False, True]))
    clock = StageClock()
    WorkMeter(POLICY).note_supervised_update(clock, SupervisedBatch(tokens, mask))
    assert work(clock, "update") == (5, 3 * (2 * (100 * 5 + 20 * 3) + 4 * 8 * 9))


def test_speed_and_utilisation_by_hand(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: now[0])
    clock = StageClock()
    for stage, seconds in (("rollout", 2.0), ("reward", 1.0), ("update_actor", 4.0), ("update_critic", 1.0)):
        with clock.stage(stage):
            now[0] += seconds
    clock.note_work("rollout", tokens=100, flops=1000.0)
    clock.note_work("reward", tokens=100)
    clock.note_work("update_actor", tokens=200, flops=6000.0)
    clock.note_work("update_critic", tokens=200, flops=3000.0)
    with clock.stage("weight_sync"):
        now[0] += 2.0
    metrics = WorkMeter(POLICY, peak=PeakFlops(10_000.0, measured=True)).metrics(clock, step_tokens=200)
    assert metrics == pytest.approx(
        {
            "time_per_token/rollout_ms": 20.0,
            "time_per_token/reward_ms": 10.0,
            "time_per_token/update_actor_ms": 20.0,
            "time_per_token/update_critic_ms": 5.0,
            "time_per_token/step_ms": 50.0,
            "throughput/tokens_per_s": 20.0,
            "throughput/update_tokens_per_s": 80.0,
            "perf/mfu": 0.1,
            "perf/mfu_rollout": 0.05,
            "perf/mfu_update_actor": 0.15,
            "perf/mfu_update_critic": 0.3,
            "perf/peak_flops": 10_000.0,
            "perf/peak_is_measured": 1.0,
        }
    )


def test_without_shapes_or_peak_there_is_speed_but_no_utilisation():
    for meter in (WorkMeter(), WorkMeter(POLICY), WorkMeter(peak=PeakFlops(1.0, measured=False))):
        clock = StageClock()
        meter.note_update(clock, "actor", rollouts())
        metrics = meter.metrics(clock, step_tokens=8)
        assert "throughput/update_tokens_per_s" in metrics
        assert not any(name.startswith("perf/") for name in metrics)
