from __future__ import annotations

from rlkit.rewards.memory import VerdictMemory
from rlkit.types import Reward


def test_the_verdicts_asked_for_longest_ago_are_forgotten_first() -> None:
    memory = VerdictMemory(2)
    for number in range(2):
        memory.keep((0, bytes([number])), Reward(float(number)))
    assert memory.recall((0, b"\0")) == Reward(0.0)
    memory.keep((0, b"\2"), Reward(2.0))
    assert memory.recall((0, b"\1")) is None
    assert memory.recall((0, b"\0")) == Reward(0.0)
    assert len(memory) == 2


def test_functions_do_not_share_verdicts() -> None:
    memory = VerdictMemory(2)
    memory.keep((0, b"a"), Reward(1.0))
    assert memory.recall((1, b"a")) is None


def test_a_limit_of_none_remembers_nothing() -> None:
    memory = VerdictMemory(0)
    memory.keep((0, b"a"), Reward(1.0))
    assert memory.recall((0, b"a")) is None
