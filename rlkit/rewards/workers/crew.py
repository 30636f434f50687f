"""A worker as the pool sees it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlkit.rewards.jobs import Job
from rlkit.rewards.workers.channel import Channel
from rlkit.rewards.workers.messages import Task
from rlkit.rewards.workers.progress import LOADING, Progress

Doom = Literal["timeout", "load", "hangs", "unwanted", "worn out", "silent"]
"""Why a worker was told to end. hangs: the function does, whatever it is asked; unwanted: nobody waits for its verdicts."""


@dataclass(eq=False)
class CrewMember:
    """jobs: given to it and not yet answered, in order, None for those that somebody else has taken over since; serial:
    number of the first of them, over its life."""

    number: int
    channel: Channel
    progress: Progress
    jobs: deque[Job | None] = field(default_factory=deque)
    serial: int = 0
    function: int = -1  # of the task that it has; -1 without one
    is_new: bool = True  # has not loaded anything yet
    doom: Doom | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        return self.function < 0 and self.doom is None

    def give(self, function: int, jobs: Sequence[Job]) -> None:
        """Let it load the function and do the jobs. Raises what `Channel.send` raises, and is idle then."""
        self.channel.send(Task(function, self.serial, tuple(job.samples for job in jobs)))
        self.jobs.extend(jobs)
        self.function = function
        self.since = time.monotonic()

    def next_done(self) -> Job | None:
        """The job that an answer has come for, if it is still wanted from this worker."""
        self.serial += 1
        return self.jobs.popleft()

    def finish(self) -> list[Job]:
        """The task has ended; the jobs that were not done."""
        self.function = -1
        left = [job for job in self.jobs if job is not None]
        self.jobs.clear()
        return left

    def let_go_but(self, kept: Job | None) -> list[Job]:
        """The jobs besides the one that takes so long: those behind it, and those whose verdicts wait to be sent with its own.

        With None it is all of them. Verdicts that still come for these are not heard.
        """
        others = [job for job in self.jobs if job is not None and job is not kept]
        self.jobs = deque(job if job is kept else None for job in self.jobs)
        return others

    def at_work_on(self) -> tuple[Job | None, float]:
        """The job that is running right now, and for how many seconds."""
        serial, seconds = self.progress.read()
        position = serial - self.serial
        return (self.jobs[position], seconds) if 0 <= position < len(self.jobs) else (None, 0.0)

    def is_loading(self) -> bool:
        return self.is_new or self.progress.read()[0] == LOADING

    def close(self) -> None:
        self.channel.close()
        self.progress.close()
