"""How long a step can be held up, in seconds, by real processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.errors import RewardError
from rlkit.rewards.scorer import build_scorer
from rlkit.types import Prompt, Sample

pytestmark = pytest.mark.slow

BROKEN = Path(__file__).with_name("broken_rewards.py")
TIMEOUT_S = 3.0
SLACK_S = 2.0
ATTEMPTS = 3
"""On a machine that has other work the clock says little: it is the code's doing if none of them is in time."""


def samples(responses: list[str]) -> list[Sample]:
    return [Sample(Prompt(row, text="q"), response) for row, response in enumerate(responses)]


@pytest.mark.parametrize("on_error", ["leave_out", "stop"])
@pytest.mark.parametrize(
    ("function", "responses"),
    [
        ("score", ["hang", *"abcdefghijklmno"]),
        ("score", ["hang"] * 64),
        ("score", ["regex"] * 2 + ["a"] * 14),
        ("score", ["raise", "nan", "os._exit", "kill", "memory", *"abcdefghijk"]),
        ("forks", ["hang", *"abc"]),
        ("leaks", [str(number) for number in range(16)]),
        ("wrong_length", list("abcdefgh")),
    ],
    ids=["one hangs", "all hang", "endless regex", "ends its process", "children", "leaks", "wrong length"],
)
def test_a_broken_reward_holds_a_step_up_for_no_longer_than_its_timeout_and_two_seconds(
    function: str, responses: list[str], on_error: str
) -> None:
    settings = RewardSection(
        functions=(f"{BROKEN}:{function}",),
        timeout_s=TIMEOUT_S,
        memory_mib=256,
        on_error=on_error,
        max_error_fraction=1.0,
        remembered_verdicts=0,
    )

    def seconds() -> float:
        with build_scorer(settings) as scorer:
            if function == "score":
                scorer.score(samples(["a"]))  # the workers have started, as they have in a run
            started = time.monotonic()
            if on_error == "stop" and function != "leaks":
                with pytest.raises(RewardError):
                    scorer.score(samples(responses))
            else:
                scorer.score(samples(responses))
            return time.monotonic() - started

    assert any(seconds() < TIMEOUT_S + SLACK_S for _ in range(ATTEMPTS))


def test_a_thousand_rewards_that_wait_50_ms_take_less_than_8_s() -> None:
    def seconds() -> float:
        started = time.monotonic()
        with build_scorer(RewardSection(functions=(f"{BROKEN}:sleeps",))) as scorer:
            rewards = scorer.score(samples([str(number) for number in range(1000)]))
            took = time.monotonic() - started
        assert [reward.score for reward in rewards] == [1.0] * 1000
        return took

    assert any(seconds() < 8.0 for _ in range(ATTEMPTS))
