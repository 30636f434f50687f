from __future__ import annotations

import pytest

from rlkit.trainers import clock as module
from rlkit.trainers.clock import StageClock


@pytest.fixture
def at(monkeypatch):
    """Function: set the time."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def set_time(seconds):
        now[0] = seconds

    return set_time


def test_a_stage_entered_twice_adds_up_and_the_step_holds_the_gaps(at):
    clock = StageClock()
    for start, end in ((1.0, 3.0), (5.0, 6.0)):
        at(start)
        with clock.stage("rollout"):
            at(end)
    at(10.0)
    assert clock.metrics() == {"time/rollout_s": 3.0, "time/step_s": 10.0}
    assert clock.seconds("rollout") == 3.0
    assert clock.seconds("never") == 0.0


def test_a_stage_that_fails_is_timed_too(at):
    clock = StageClock()
    with pytest.raises(ValueError, match="broken"), clock.stage("reward"):
        at(2.0)
        raise ValueError("broken")
    assert clock.seconds("reward") == 2.0


def test_work_adds_up(at):
    clock = StageClock()
    clock.note_work("update_actor", tokens=10, flops=5.0)
    clock.note_work("update_actor", tokens=3, flops=2.0)
    work = clock.stages()["update_actor"]
    assert (work.tokens, work.flops, work.seconds) == (13, 7.0, 0.0)
