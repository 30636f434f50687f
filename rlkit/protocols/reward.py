"""Reward functions: they judge answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from rlkit.types.reward import Reward, Sample

RunsIn = Literal["process", "async", "trainer"]
"""Where a reward function is called.

process  in a worker process, which is killed with all its children when an answer takes too long or too much memory
async    in an event loop of the trainer's process, many answers at a time: for functions that wait for something remote
trainer  in the trainer's process, one call after the other, never interrupted: for models on the trainer's device
"""


class RewardFunction(Protocol):
    """A batch of answers in, one verdict each out, in the same order.

    A plain per-sample function is adapted: see `rlkit.rewards.adapt`. A plugin's target is constructed as
    `Target(options)` and then called; a `file.py:function` is called directly. `__call__` may be `async`.

    An object or a function may have these attributes and methods; each has a default (`rlkit.rewards.manner`):

    judges_apart: bool     the verdict on an answer does not depend on the other answers of the batch, so that the answers
                           may be handed over one by one, to several workers, each with a time limit of its own. Default:
                           True for functions of one answer, False for those of a batch.
    runs_in: RunsIn        default "async" for async functions, "process" for all others
    remembers: bool        default True: an answer that comes again is not judged again, as far as rlkit's memory reaches;
                           False for a function whose verdict on the same answer changes. Counts with judges_apart only.
    answer_timeout_s: float  the longest that its own limits let it take for one answer; reward.timeout_s must be longer
    extract_answer(response: str) -> str | None     the final answer, for majority votes
    close() -> None, async aclose() -> None         at the end of the run

    Raising `rlkit.errors.TransientRewardError` asks to be called again for the answer a little later.
    """

    def __call__(self, samples: Sequence[Sample]) -> Sequence[Reward]: ...
