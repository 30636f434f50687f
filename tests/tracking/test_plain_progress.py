from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest

from rlkit.tracking.plain_progress import PlainProgress

METRICS = {"reward/mean": 0.5, "response/length_mean": 12.0, "actor/loss": 0.1}


class Screen:
    """A plain view on a clock that the test moves."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.time = 100.0
        self.view = PlainProgress(self.stream, now=lambda: self.time)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_steps_are_shown_at_most_every_two_seconds_and_at_both_ends(screen, make_run):
    run = make_run(total_steps=100)
    screen.view.start(run)
    for step in range(1, 101):
        screen.time += 0.1
        screen.view.step(run, step, METRICS)
    shown = [int(line.split()[1].partition("/")[0]) for line in screen.lines if line.startswith("step")]
    assert shown[0] == 1
    assert shown[-1] == 100
    assert 5 <= len(shown) <= 7
    gaps = [after - before for before, after in itertools.pairwise(shown[:-1])]
    assert all(gap >= 20 for gap in gaps)


def test_a_line_has_the_step_the_headlines_and_the_time_left(screen, make_run):
    run = make_run(total_steps=10)
    screen.view.start(run)
    screen.time += 3.0
    screen.view.step(run, 1, METRICS)
    assert screen.lines[1] == "step  1/10  reward 0.500  length 12.0  eta 0:27"


def test_the_first_step_after_resuming_is_shown(screen, make_run):
    run = make_run(total_steps=10, first_step=4)
    screen.view.start(run)
    screen.view.step(run, 5, METRICS)
    assert "going on after step 4" in screen.lines[0]
    assert screen.lines[1].startswith("step  5/10")


def test_validations_checkpoints_and_warnings_are_always_shown(screen, make_run):
    run = make_run()
    screen.view.start(run)
    screen.view.step(run, 1, METRICS)
    screen.view.validation(run, 1, {"validation/score": 0.5})
    screen.view.checkpoint(run, 1, Path("runs/first/checkpoints/step_000001"))
    screen.view.notice("even")
    screen.view.warning("odd")
    assert screen.lines[2:] == [
        "validation after step 1: score 0.500",
        f"checkpoint {Path('runs/first/checkpoints/step_000001')}",
        "even",
        "warning: odd",
    ]


def test_the_last_line_says_how_it_ended(screen, make_run):
    run = make_run()
    screen.view.start(run)
    screen.time += 65
    screen.view.finish(run, "failed")
    assert screen.lines[-1] == "ppo 'first' failed after 1:05"
