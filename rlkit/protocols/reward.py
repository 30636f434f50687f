"""Reward functions: they judge answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlkit.types.reward import Reward, Sample


class RewardFunction(Protocol):
    """A batch of answers in, one verdict each out, in the same order.

    A plain per-sample function is adapted: see `rlkit.rewards.adapt`. A plugin's target is constructed as
    `Target(options)` and then called; a `file.py:function` is called directly.
    """

    def __call__(self, samples: Sequence[Sample]) -> Sequence[Reward]: ...
