"""One batch of answers on its way to verdicts: who has been judged, what failed, and when that is too much."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlkit.errors import RewardError, RLKitError
from rlkit.rewards.jobs import Job
from rlkit.rewards.memory import Key, VerdictMemory
from rlkit.rewards.verdict import Failure, Verdict
from rlkit.types.reward import Reward, Sample

LOGGER = logging.getLogger("rlkit")

LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class ErrorPolicy:
    """stop: the first answer that cannot be judged ends the batch; leave_out: only more than `max_fraction` of them do."""

    on_error: Literal["stop", "leave_out"] = "stop"
    max_fraction: float = 1.0


@dataclass(frozen=True)
class JudgingReport:
    """How the judging of one batch went.

    seconds      from the beginning to the last verdict
    errors       answers that could not be judged, by kind of failure
    remembered   verdicts that had been given before, as a share of those asked for
    restarts     of workers; retries: of calls. Both since the last batch
    """

    answers: int
    seconds: float
    errors: Mapping[str, int]
    remembered: float
    restarts: int
    retries: int


class Column:
    """Verdicts of one function on the batch; implements `Ticket`."""

    def __init__(self, judging: Judging, name: str, keys: Sequence[Key | None], memory: VerdictMemory) -> None:
        self.name = name
        self.verdicts: list[Verdict | None] = [None] * len(keys)
        self.seconds: list[float | None] = [None] * len(keys)
        self._judging = judging
        self._keys = keys
        self._memory = memory

    @property
    def is_cancelled(self) -> bool:
        return self._judging.has_ended

    def deliver(self, job: Job, verdicts: Sequence[Verdict], seconds: float | None) -> None:
        shared = len(job.samples) == 1
        for index, position in enumerate(job.positions):
            self.put(position, verdicts[0 if shared else index], None if not shared else seconds)
        self._judging.look()

    def put(self, position: int, verdict: Verdict, seconds: float | None = None) -> None:
        """The verdict on one answer, unless it has one."""
        if self.verdicts[position] is not None or self.is_cancelled:
            return
        self.verdicts[position] = verdict
        self.seconds[position] = seconds
        if isinstance(verdict, Failure):
            self._judging.note_failure(self, position, verdict)
        elif (key := self._keys[position]) is not None:
            self._memory.keep(key, verdict)
        self._judging.note_verdict()

    def stop(self, error: Exception) -> None:
        self._judging.end(error)


@dataclass(eq=False)
class _Failed:
    rows: set[int] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    first: str = ""


class Judging:
    """The verdicts on `samples` by all functions of a scorer, on their way. `result` waits for them."""

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        functions: int,
        policy: ErrorPolicy,
        finish: Callable[[Judging], Sequence[Reward]],
        while_waiting: Callable[[], None],
        counters: Callable[[], tuple[int, int]],
    ) -> None:
        """finish: from the whole columns to rewards; while_waiting: called now and then; counters: restarts and retries."""
        self.samples = samples
        self.columns: list[Column] = []
        self.local: list[Callable[[], None]] = []  # what `result` itself has to do
        self.remembered = 0
        self._policy = policy
        self._finish, self._while_waiting, self._counters = finish, while_waiting, counters
        self._missing = functions * len(samples)
        self._asked = self._missing
        self._changed = threading.Condition(threading.RLock())
        self._error: Exception | None = None
        self._failed = _Failed()
        self._started = self._last = time.monotonic()
        self._rewards: list[Reward] | None = None

    @property
    def has_ended(self) -> bool:
        return self._error is not None

    def result(self) -> list[Reward]:
        """One reward for each sample, in order, waited for. Raises `RewardError` as the policy says, and `ConfigError`."""
        if self._rewards is None:
            self._judge_here()
            with self._changed:
                while self._missing and self._error is None:
                    self._changed.wait(LOOK_EVERY_S)
                    self._while_waiting()
            if self._error is not None:
                raise self._error
            self._warn()
            self._rewards = list(self._finish(self))
        return self._rewards

    def _judge_here(self) -> None:
        try:
            for call in self.local:
                if self._error is None:
                    call()
        except RLKitError as error:
            self.end(error)

    @property
    def seconds(self) -> list[float | None]:
        """What judging each answer took, all functions together; None where only a whole batch was timed, or for no call."""
        rows = zip(*(column.seconds for column in self.columns), strict=True)
        times = [[seconds for seconds in row if seconds is not None] for row in rows]
        return [sum(row) if row else None for row in times]

    def report(self) -> JudgingReport:
        """Of judging that has come to its result."""
        restarts, retries = self._counters()
        return JudgingReport(
            answers=len(self.samples),
            seconds=self._last - self._started,
            errors=dict(self._failed.kinds),
            remembered=self.remembered / max(1, self._asked),
            restarts=restarts,
            retries=retries,
        )

    def end(self, error: Exception) -> None:
        """`result` raises `error`; nobody else needs to go on."""
        with self._changed:
            if self._error is None and self._missing:
                self._error = error
            self._changed.notify_all()

    def note_verdict(self) -> None:
        with self._changed:
            self._missing -= 1
            self._last = time.monotonic()

    def look(self) -> None:
        """Wake whoever waits, if there is a reason."""
        with self._changed:
            if not self._missing:
                self._changed.notify_all()

    def note_failure(self, column: Column, position: int, failure: Failure) -> None:
        """Count it; end everything when it is one too many."""
        with self._changed:
            failed, prompt = self._failed, self.samples[position].prompt
            if position not in failed.rows:
                failed.rows.add(position)
                failed.kinds[failure.kind] += 1
            where = f"reward function {column.name!r} failed on row {prompt.row_id} ({prompt.data_source}): {failure.reason}"
            failed.first = failed.first or where
            if failure.trace:
                LOGGER.debug("%s\n%s", where, failure.trace)
            if self._policy.on_error == "stop":
                self.end(
                    RewardError(f"{where}; mend it, or set reward.on_error = leave_out to do without such answers")
                )
            elif len(failed.rows) > self._policy.max_fraction * len(self.samples):
                self.end(
                    RewardError(
                        f"{self._counts()}, more than reward.max_error_fraction = {self._policy.max_fraction:g} allows; "
                        f"the first: {failed.first}"
                    )
                )

    def _counts(self) -> str:
        kinds = ", ".join(f"{kind} {number}" for kind, number in self._failed.kinds.most_common())
        return f"{len(self._failed.rows)} of {len(self.samples)} answers could not be judged ({kinds})"

    def _warn(self) -> None:
        if self._failed.rows:
            LOGGER.warning("%s and are left out; the first: %s", self._counts(), self._failed.first)
