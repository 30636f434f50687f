from __future__ import annotations

import pytest

from rlkit.tracking.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_promised_before_the_first_step(clock):
    assert Pace(10, 0, clock).remaining_s is None


def test_even_steps_give_the_exact_remaining_time(clock):
    pace = Pace(10, 0, clock)
    for step in (1, 2, 3):
        clock.time += 2.0
        pace.step_done(step)
    assert pace.elapsed_s == pytest.approx(6.0)
    assert pace.remaining_s == pytest.approx(14.0)


def test_a_resumed_run_counts_only_its_own_steps(clock):
    pace = Pace(10, 8, clock)
    clock.time += 3.0
    pace.step_done(9)
    assert pace.remaining_s == pytest.approx(3.0)


def test_a_slow_first_step_is_averaged_away(clock):
    pace = Pace(100, 0, clock)
    clock.time += 100.0
    pace.step_done(1)
    for step in range(2, 61):
        clock.time += 1.0
        pace.step_done(step)
    assert pace.remaining_s == pytest.approx(40.0, rel=0.1)


def test_a_lasting_change_of_speed_is_followed(clock):
    pace = Pace(200, 0, clock)
    for step in range(1, 101):
        clock.time += 1.0 if step <= 50 else 4.0
        pace.step_done(step)
    assert pace.remaining_s == pytest.approx(400.0, rel=0.05)


def test_nothing_remains_at_the_end(clock):
    pace = Pace(1, 0, clock)
    clock.time += 5.0
    pace.step_done(1)
    assert pace.remaining_s == 0.0
