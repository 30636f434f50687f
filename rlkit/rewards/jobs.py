"""What is asked of those who judge: one call of a reward function each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlkit.rewards.verdict import Failure, Verdict
from rlkit.types.reward import Sample

LONGEST_PAUSE_S = 60.0
"""Between two attempts."""


class Ticket(Protocol):
    """Where the verdicts on one batch by one function go. Its methods may be called from any thread."""

    @property
    def is_cancelled(self) -> bool:
        """Nobody waits for the verdicts any more, or `stop` was called."""
        ...

    def deliver(self, job: Job, verdicts: Sequence[Verdict], seconds: float | None) -> None:
        """Verdicts on the samples of `job`; seconds that the call took, None when it did not come back.

        What comes for an answer that has its verdict already, or after `is_cancelled`, is ignored.
        """
        ...

    def stop(self, error: Exception) -> None:
        """Nothing more will come, and `error` says why."""
        ...


@dataclass(eq=False)
class Job:
    """One call of a function.

    function   its number in the scorer
    samples    what it is called with
    positions  of the samples in the batch; with one sample there may be several, of answers that are the same
    attempt    how often it was asked before
    is_settled its verdicts have been delivered
    losses     how often a worker ended with this job in its hands, and not because of it
    """

    function: int
    samples: tuple[Sample, ...]
    positions: tuple[int, ...]
    ticket: Ticket
    attempt: int = 0
    losses: int = 0
    is_settled: bool = False

    def settle(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        self.ticket.deliver(self, verdicts, seconds)
        self.is_settled = True

    def fail(self, failure: Failure) -> None:
        """The same failure for every sample."""
        self.ticket.deliver(self, [failure] * len(self.samples), None)
        self.is_settled = True


@dataclass(frozen=True)
class Patience:
    """How long is waited, and how often is asked.

    timeout_s     for one call
    retries       further attempts after a `TransientRewardError`
    retry_wait_s  before the first of them; it doubles each time
    """

    timeout_s: float
    retries: int = 0
    retry_wait_s: float = 1.0

    def pause_before_retry(self, job: Job, verdicts: Sequence[Verdict]) -> float | None:
        """Seconds after which `job` is to be asked again; None when its verdicts stand.

        With jitter, so that the answers of a batch do not come back all at once.
        """
        asked = [verdict for verdict in verdicts if isinstance(verdict, Failure) and verdict.kind == "transient"]
        if not asked or job.attempt >= self.retries:
            return None
        pause = min(LONGEST_PAUSE_S, self.retry_wait_s * 2.0**job.attempt) * random.Random().uniform(0.5, 1.0)
        return max(pause, *(verdict.retry_after_s or 0.0 for verdict in asked))
