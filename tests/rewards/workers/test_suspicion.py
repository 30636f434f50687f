"""Answers that hang beside ones that are only slow, in real processes: the slow ones keep their verdicts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.rewards.scorer import Scorer, build_scorer
from rlkit.rewards.workers.nursery import Nursery
from rlkit.types import Prompt, Sample

pytestmark = pytest.mark.slow

BROKEN = Path(__file__).with_name("broken_rewards.py")


def make_scorer(*, workers: int, timeout_s: float) -> Scorer:
    section = RewardSection(
        functions=(f"{BROKEN}:waits_or_hangs",),
        on_error="leave_out",
        max_error_fraction=1.0,
        timeout_s=timeout_s,
        workers=workers,
        remembered_verdicts=0,
    )
    scorer = build_scorer(section)
    # All workers have started, and one was so slow that those that come to an end in time are not given up soon.
    rewards = scorer.score(samples(["1.2", *["0.1"] * 8 * workers]))
    assert not any(reward.error for reward in rewards)
    return scorer


def samples(responses: Sequence[str]) -> list[Sample]:
    return [Sample(Prompt(row, text="q"), response) for row, response in enumerate(responses)]


@pytest.mark.parametrize(("workers", "hanging"), [(4, 2), (2, 3), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_answers_that_hang_together_cost_no_slow_one_its_verdict(workers: int, hanging: int) -> None:
    with make_scorer(workers=workers, timeout_s=3.0) as scorer:
        rewards = scorer.score(samples(["hang"] * hanging + ["0.4"] * 10))
    assert [reward.error is None for reward in rewards] == [False] * hanging + [True] * 10
    assert all("no verdict within 3 s" in str(reward.error) for reward in rewards[:hanging])


@pytest.mark.slow
def test_a_group_that_hangs_costs_no_other_answer_its_verdict() -> None:
    with make_scorer(workers=12, timeout_s=3.0) as scorer:
        for _ in range(3):
            rewards = scorer.score(samples(["hang"] * 16 + ["0.4"] * 60))
            assert sum(reward.error is None for reward in rewards) == 60


def test_a_function_that_hangs_is_given_up_and_judges_the_next_batch() -> None:
    with make_scorer(workers=4, timeout_s=3.0) as scorer:
        judging = scorer.begin(samples(["hang"] * 40))
        errors = [str(reward.error) for reward in judging.result()]
        assert sum("given up: none of the last" in error for error in errors) >= 40 - 8
        assert judging.report().errors == {"timeout": 40}
        assert scorer.score(samples(["0.1"]))[0].error is None


@pytest.mark.slow
def test_a_verdict_that_comes_after_its_function_was_given_up_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    kill, kills = Nursery.kill, count()

    def kill_late(nursery: Nursery, worker: int) -> None:  # as on a machine that swaps; those that hang die at once
        threading.Timer(0.0 if next(kills) < 4 else 4.0, kill, (nursery, worker)).start()

    with make_scorer(workers=4, timeout_s=6.0) as scorer:
        monkeypatch.setattr(Nursery, "kill", kill_late)
        rewards = scorer.score(samples(["hang"] * 4 + ["3.5"] * 8))
        assert any("given up" in str(reward.error) for reward in rewards)
        assert scorer.score(samples(["3.5"]))[0].error is None


def test_the_last_answers_have_their_whole_time_when_few_have_failed() -> None:
    with make_scorer(workers=2, timeout_s=4.0) as scorer:
        rewards = scorer.score(samples(["hang", "hang", "2.0"]))
    assert [reward.error is None for reward in rewards] == [False, False, True]
