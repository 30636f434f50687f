"""How rewards and their parts are distributed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.reports.distributions import MAX_BINS, Distribution, read_distributions, round_bounds
from rlkit.reports.rollout_files import rollout_files

MakeRun = Callable[..., Path]


def distributions_of(folder: Path) -> dict[str, Distribution]:
    return {one.name: one for one in read_distributions(rollout_files(folder / "rollouts"))}


def test_a_few_different_rewards_have_a_row_each(make_run: MakeRun) -> None:
    rewards = {1: [0.0, 0.0, 0.0, 1.0], 2: [0.0, 1.0, 1.0, 0.5]}
    folder = make_run(answers={step: [{"score": score} for score in scores] for step, scores in rewards.items()})
    distribution = distributions_of(folder)["reward"]
    assert (distribution.steps, distribution.labels) == ((1, 2), ("0", "0.5", "1"))
    assert distribution.shares == ((0.75, 0.25), (0.0, 0.25), (0.25, 0.5))


def test_many_different_rewards_are_put_into_bins(make_run: MakeRun) -> None:
    folder = make_run(answers={1: [{"score": value / 100} for value in range(100)]})
    distribution = distributions_of(folder)["reward"]
    assert distribution.labels[:2] == ("0 to 0.1", "0.1 to 0.2")
    assert [row[0] for row in distribution.shares] == pytest.approx([0.1] * 10)


def test_each_part_has_its_own_distribution(make_run: MakeRun) -> None:
    rows = [{"score": 1.5, "parts": '{"right": 1, "tidy": 0.5}'}, {"score": 0.5, "parts": '{"tidy": 0.5}'}]
    found = distributions_of(make_run(answers={3: rows}))
    assert list(found) == ["reward", "part right", "part tidy"]
    assert (found["part tidy"].steps, found["part tidy"].labels, found["part tidy"].shares) == (
        (3,),
        ("0.5",),
        ((1.0,),),
    )


def test_a_single_part_that_is_the_reward_is_not_shown_twice(make_run: MakeRun) -> None:
    rows = [{"score": value, "parts": f'{{"only": {value}}}'} for value in (0.0, 1.0)]
    assert list(distributions_of(make_run(answers={1: rows}))) == ["reward"]


def test_answers_that_the_reward_failed_on_do_not_count(make_run: MakeRun) -> None:
    folder = make_run(answers={1: [{"score": 1.0}, {"score": 0.0, "error": "timed out"}]})
    assert distributions_of(folder)["reward"].labels == ("1",)


@pytest.mark.parametrize(("low", "high"), [(-0.332, 1.38), (0.0, 1e-6), (-5e7, 3.0), (0.99, 1.01), (-1.0, 0.0)])
def test_bins_are_round_few_and_hold_everything(low: float, high: float) -> None:
    bounds = round_bounds(low, high)
    assert bounds[0] <= low and high <= bounds[-1]
    assert MAX_BINS // 4 <= len(bounds) - 1 <= MAX_BINS
