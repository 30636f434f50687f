"""Judging in the trainer's own process, where foreign code cannot be ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.jobs import Job, Patience
from rlkit.rewards.styles import Style
from rlkit.rewards.verdict import Failure, failure_of, read_verdict
from rlkit.types.reward import Sample

MAX_ABANDONED = 8
"""Threads of hanging calls that may be alive at once: a function that always hangs must not fill the machine with them."""

Judge = Callable[[Sequence[Sample]], Iterator[object]]


class LocalCalls:
    """Calls in this process, one after the other, while the caller waits.

    has_deadline: in a thread that is left behind when an answer takes too long (it cannot be killed, and does not keep the
    process alive); a function that holds the interpreter's lock for long, such as one endless regular expression, delays
    the deadline itself. Without, in the caller's thread and for as long as it takes.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.retries = 0
        self._abandoned: list[threading.Thread] = []

    def judge(self, style: Style, jobs: Sequence[Job], *, name: str, has_deadline: bool) -> None:
        """Deliver verdicts on all jobs, which are of one function. Raises `ConfigError`, or `RewardError` for too many hangs."""
        waiting = list(jobs)
        while waiting:
            started = time.monotonic()
            samples = [sample for job in waiting for sample in job.samples]
            raw = self._call_patiently(style, samples, name) if has_deadline else call_here(style, samples)
            verdicts = [read_verdict(verdict) for verdict in raw]
            seconds = (time.monotonic() - started) / max(1, len(verdicts))
            again: list[Job] = []
            pauses = [0.0]
            start = 0
            for job in waiting:
                own = verdicts[start : start + len(job.samples)]
                start += len(job.samples)
                pause = self._patience.pause_before_retry(job, own)
                if pause is None:
                    job.settle(own, seconds)
                else:
                    job.attempt += 1
                    again.append(job)
                    pauses.append(pause)
            self.retries += len(again)
            time.sleep(max(pauses))
            waiting = again

    def _call_patiently(self, style: Style, samples: Sequence[Sample], name: str) -> list[object]:
        """After an answer that hangs, a new thread goes on with the next; a call for a whole batch fails as a whole."""
        verdicts: list[object] = []
        while len(verdicts) < len(samples):
            self._check_abandoned(name)
            left = samples[len(verdicts) :]
            given, late = call_with_deadline(style, left, timeout_s=self._patience.timeout_s, name=name)
            verdicts += given
            if late is not None:
                self._abandoned.append(late)
                if not (style.is_of_one_answer and style.manner.judges_apart):
                    verdicts += given[-1:] * (len(samples) - len(verdicts))
        return verdicts

    def _check_abandoned(self, name: str) -> None:
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        if len(self._abandoned) >= MAX_ABANDONED:
            raise RewardError(
                f"{len(self._abandoned)} calls of reward functions never came back, the next would be {name!r}; "
                "mend the function that hangs, or raise reward.timeout_s"
            )


@dataclass
class _Call:
    """One running call; the thread fills it, the caller reads it once the call is done or the time is up."""

    verdicts: list[object] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    moved: float = field(default_factory=time.monotonic)  # when it began, or gave its last verdict


def call_with_deadline(
    function: Judge, samples: Sequence[Sample], *, timeout_s: float, name: str
) -> tuple[list[object], threading.Thread | None]:
    """One raw verdict or `Failure` for each sample, or for the first of them only and the thread that hangs on the last of these.

    It hangs when it has given no verdict for `timeout_s` seconds.
    """
    call = _Call()
    thread = threading.Thread(target=_run, args=(function, samples, call), name=f"reward-{name}", daemon=True)
    thread.start()
    while not call.finished.wait(max(0.001, call.moved + timeout_s - time.monotonic())):
        if time.monotonic() - call.moved > timeout_s:
            # A copy: the thread may go on appending after it has been given up.
            verdicts = list(call.verdicts)[: len(samples)]
            if len(verdicts) == len(samples):
                return verdicts, None
            late = Failure(f"no verdict within {timeout_s:g} s (the thread is left behind)", "timeout")
            return [*verdicts, late], thread
    if isinstance(call.error, ConfigError):
        raise call.error
    if call.error is not None:
        return [*call.verdicts, *[failure_of(call.error)] * (len(samples) - len(call.verdicts))], None
    return call.verdicts[: len(samples)], None


def call_here(function: Judge, samples: Sequence[Sample]) -> list[object]:
    """One raw verdict or `Failure` for each sample."""
    verdicts: list[object] = []
    try:
        for verdict in function(samples):
            verdicts.append(verdict)  # noqa: PERF402 - those before the one that raises are kept
    except ConfigError:
        raise
    except Exception as error:
        verdicts += [failure_of(error)] * (len(samples) - len(verdicts))
    return verdicts


def _run(function: Judge, samples: Sequence[Sample], call: _Call) -> None:
    try:
        for verdict in function(samples):
            call.verdicts.append(verdict)
            call.moved = time.monotonic()
    # SystemExit too: foreign code that calls sys.exit() has failed, and must not end its thread in silence.
    except BaseException as error:
        call.error = error
    finally:
        call.finished.set()
