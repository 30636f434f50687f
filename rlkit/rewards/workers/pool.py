"""Gives jobs to worker processes and watches over them."""

from __future__ import annotations

import heapq
import os
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.jobs import Job, Patience
from rlkit.rewards.verdict import Failure, Verdict
from rlkit.rewards.workers.crew import CrewMember, Doom
from rlkit.rewards.workers.endings import LOAD_TIMEOUT_S, broken_off, failure_at, why_not_loaded
from rlkit.rewards.workers.messages import FunctionSource, Loaded, Refused, Surroundings, TaskDone, Verdicts
from rlkit.rewards.workers.nursery import LOST, Nursery, nursery_of_this_process
from rlkit.rewards.workers.suspicion import Suspicion, Suspicions

LOOK_EVERY_S = 0.05
"""How exactly time limits are kept."""
SHORT_FOR_S = 0.02
"""Work has to wait so long before one more worker is started: quick functions never need a second one."""
CHUNK_S = 0.05
"""Calls that take about so long together go to a worker at once."""
LONG_CHUNK_S = 0.25
"""As long as every worker has more than that to do: on a busy machine each message waits for its turn."""
MOST_CALLS_AT_ONCE = 64
CLOSE_TIMEOUT_S = 0.5
"""For the functions' own `close`."""
MOST_LOSSES = 3
"""Workers that may end under a job, or nurseries under a pool, before it is given up."""

Exit = tuple[int, int | None]


class WorkerPool:
    """Up to `workers` processes that can judge by any of `functions`. They start when there is work for them.

    What is asked of it comes back through the jobs' tickets, always. Counters: `restarts` of workers that ended or were
    ended, `retries` of calls.
    """

    def __init__(
        self, functions: Sequence[FunctionSource], *, workers: int, patience: Patience, memory_bytes: int, seed: int
    ) -> None:
        self._functions = tuple(functions)
        self._most = workers
        self._patience = patience
        self._memory_bytes, self._seed = memory_bytes, seed
        self.restarts = 0
        self.retries = 0
        self._inbox: deque[Job | Exit | int] = deque()  # an int: a function that will be needed soon
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._crew: dict[int, CrewMember] = {}
        self._open: set[Job] = set()  # at least all that have been taken in and not settled
        self._waiting: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._order = count()
        self._seconds: dict[int, float] = {}  # by function: of a call, a moving average
        self._suspicions = Suspicions(patience.timeout_s)
        self._refused: dict[int, str] = {}
        self._short_since = 0.0
        self._lost_nurseries = 0
        self._nursery: Nursery | None = None
        self._closing = False
        self._broken: RewardError | None = None
        self._thread: threading.Thread | None = None

    def warm_up(self, function: int) -> None:
        """Start the first worker and let it import a function, while something else happens."""
        self._put(function)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Never waits."""
        self._inbox.extend(jobs)
        self._wake()
        if self._broken is not None:
            self._stop_all(self._broken)

    def close(self) -> None:
        """End all workers; what they leave behind is killed."""
        self._closing = True
        if self._thread is not None:
            self._wake()
            self._thread.join()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _put(self, entry: Job | Exit | int) -> None:
        self._inbox.append(entry)
        self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reward workers", daemon=True)
            self._thread.start()
        try:
            self._waker.send(b"!")
        except (BlockingIOError, OSError):  # awake anyway, or closed
            return

    # Everything below runs in the pool's own thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._look_around(self._patient_for())
            self._part()
        except BaseException as error:
            self._broken = broken_off(error)
            self._stop_all(self._broken)
            for member in self._crew.values():
                self._doom(member, "unwanted")

    def _look_around(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._woken.recv(4096)
            else:
                self._hear(key.data)
        self._open_inbox()
        self._take_up_retries()
        self._watch()
        self._ponder_suspicions()
        self._give_out()

    def _patient_for(self) -> float | None:
        if self._waiting and len(self._active()) < self._most:
            return SHORT_FOR_S / 2
        if self._waiting or any(member.function >= 0 for member in self._crew.values()):
            return LOOK_EVERY_S
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later else None

    def _open_inbox(self) -> None:
        if self._inbox:
            self._open = {job for job in self._open if not (job.is_settled or job.ticket.is_cancelled)}
        while self._inbox:
            entry = self._inbox.popleft()
            if isinstance(entry, Job):
                self._open.add(entry)
                self._waiting.append(entry)
            elif isinstance(entry, tuple):
                self._bury(*entry)
            else:
                self._prepare(entry)

    def _prepare(self, function: int) -> None:
        if not self._crew:
            self._hire(function)

    def _take_up_retries(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._waiting.append(heapq.heappop(self._later)[2])

    def _hear(self, member: CrewMember) -> None:
        for message in member.channel.take_what_is_there():
            match message:
                case Verdicts(calls):
                    for call in calls:
                        job = member.next_done()
                        if job is not None:
                            self._settle(job, call.verdicts, call.seconds)
                case TaskDone(worn_out):
                    self._waiting.extendleft(reversed(member.finish()))
                    if worn_out:
                        self._doom(member, "worn out")
                case Loaded():
                    member.finish()
                    member.is_new = False
                    self._short_since = time.monotonic()
                case Refused(reason, is_config):
                    self._refuse(member, reason, is_config=is_config)
        if member.channel.is_closed and member.number in self._crew:
            # Dead; the nursery says so in a moment.
            self._unregister(member)

    def _settle(self, job: Job, verdicts: Sequence[Verdict], seconds: float) -> None:
        known = self._seconds.get(job.function, seconds)
        self._seconds[job.function] = 0.8 * known + 0.2 * seconds
        self._waiting.extend(self._suspicions.note_verdict(job.function, seconds))
        pause = None if job.ticket.is_cancelled else self._patience.pause_before_retry(job, verdicts)
        if pause is None:
            job.settle(verdicts, seconds)
            return
        job.attempt += 1
        self.retries += 1
        heapq.heappush(self._later, (time.monotonic() + pause, next(self._order), job))

    def _refuse(self, member: CrewMember, reason: str, *, is_config: bool) -> None:
        function, jobs = member.function, member.finish()
        member.is_new = False
        if is_config:
            for job in jobs:
                job.ticket.stop(ConfigError(reason))
            return
        self._refused[function] = reason
        self._waiting.extendleft(jobs)  # the next round stops their tickets

    def _watch(self) -> None:
        for member in self._active():
            if member.function < 0:
                continue
            if member.is_loading():
                if time.monotonic() - member.since > LOAD_TIMEOUT_S:
                    self._doom(member, "load")
                continue
            job, seconds = member.at_work_on()
            if seconds > self._patience.timeout_s:
                self._doom(member, "timeout")
            elif job is not None and job.ticket.is_cancelled:
                self._waiting.extendleft(reversed(member.let_go_but(job)))
                self._doom(member, "unwanted")
            elif job is not None and seconds > LONG_CHUNK_S and (others := member.let_go_but(job)):
                self._waiting.extendleft(reversed(others))
                self._seconds[job.function] = seconds  # the next ones may take as long: one at a time for now

    def _ponder_suspicions(self) -> None:
        """What waits for a suspected function is parked but for the probes; once these have failed as well, it is given up."""
        for function, suspicion in self._suspicions.all():
            suspicion.parked += (job for job in self._waiting if job.function == function)
            self._waiting = deque(job for job in self._waiting if job.function != function)
            suspicion.parked = deque(job for job in suspicion.parked if not job.ticket.is_cancelled)
            members = [member for member in self._active() if member.function == function and member.jobs]
            running = [0.0 if member.is_loading() else member.at_work_on()[1] for member in members]
            if suspicion.is_certain(running):
                self._give_up(function, suspicion, members)
            else:
                self._waiting.extendleft(suspicion.take_probes(len(members)))

    def _give_up(self, function: int, suspicion: Suspicion, members: Sequence[CrewMember]) -> None:
        tried = suspicion.timeouts + len(members)
        limit = f"reward.timeout_s = {self._patience.timeout_s:g}"
        given_up = Failure(
            f"given up: none of the last {tried} answers that were tried came to an end ({limit})", "timeout"
        )
        jobs = list(self._suspicions.drop(function))
        for member in members:
            jobs += member.let_go_but(None)
            self._doom(member, "hangs")
        for job in jobs:
            job.fail(given_up)

    def _give_out(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if first.ticket.is_cancelled:
                self._waiting.popleft()
                continue
            if first.function in self._refused:
                first.ticket.stop(RewardError(self._refused[first.function]))
                continue
            member = next((member for member in self._crew.values() if member.is_idle), None)
            if member is None:
                self._grow(first.function)
                return
            self._short_since = time.monotonic()
            self._send(member, first.function, self._next_jobs(first))

    def _next_jobs(self, first: Job) -> list[Job]:
        """Taken from the waiting ones: as many calls of one function as fill CHUNK_S, or more while there are plenty."""
        if first.function in self._suspicions:
            return [self._waiting.popleft()]
        seconds = max(1e-6, self._seconds.get(first.function, LONG_CHUNK_S))
        plenty = min(int(LONG_CHUNK_S / seconds), len(self._waiting) // (2 * self._most))
        most = min(MOST_CALLS_AT_ONCE, max(1, int(CHUNK_S / seconds), plenty))
        jobs: list[Job] = []
        while self._waiting and len(jobs) < most and self._waiting[0].function == first.function:
            job = self._waiting.popleft()
            if not job.ticket.is_cancelled:
                jobs.append(job)
        return jobs

    def _send(self, member: CrewMember, function: int, jobs: list[Job]) -> None:
        try:
            member.give(function, jobs)
        except OSError:
            self._doom(member, "silent")
            self._give_back(jobs)
        # A row may hold anything, and pickle may raise anything.
        except Exception as error:
            if len(jobs) == 1:
                text = f"cannot be sent to a worker ({type(error).__name__}: {error}); try reward.workers = 0"
                jobs[0].fail(Failure(" ".join(text.split()), "exception"))
                return
            half = len(jobs) // 2
            self._send(member, function, jobs[:half])
            self._waiting.extendleft(reversed(jobs[half:]))
            self._seconds[function] = CHUNK_S  # one by one from here on

    def _grow(self, function: int) -> None:
        """One more worker, if there may be one, none is on its way, and work has waited for a while."""
        crew = self._active()
        if len(crew) >= self._most or any(member.is_new for member in crew):
            return
        if not crew or time.monotonic() - self._short_since > SHORT_FOR_S:
            self._hire(function)

    def _hire(self, function: int) -> None:
        surroundings = Surroundings(
            self._functions, self._seed, self._memory_bytes, str(Path.cwd()), tuple(sys.path), dict(os.environ)
        )
        try:
            self._nursery = nursery_of_this_process()
            member = CrewMember(*self._nursery.spawn(self._functions, self._note_exit))
        except OSError as error:
            self._lost_nurseries += 1
            if self._lost_nurseries > MOST_LOSSES:
                raise RewardError(f"reward workers cannot be started: {error}") from error
            return
        self._crew[member.number] = member
        self._selector.register(member.channel, selectors.EVENT_READ, member)
        try:
            member.channel.send(surroundings)
            member.give(function, [])
        except OSError:
            self._doom(member, "silent")

    def _note_exit(self, worker: int, status: int | None) -> None:
        """Called by the nursery's thread."""
        self._put((worker, status))

    def _doom(self, member: CrewMember, doom: Doom) -> None:
        if member.doom is None and self._nursery is not None:
            member.doom = doom
            self._nursery.kill(member.number)

    def _active(self) -> list[CrewMember]:
        return [member for member in self._crew.values() if member.doom is None]

    def _bury(self, number: int, status: int | None) -> None:
        """A worker has ended: the job that it was at has failed, the others of its task go to somebody else."""
        member = self._crew.get(number)
        if member is None:
            return
        self._hear(member)
        self._unregister(member)
        del self._crew[number]
        loading, (culprit, seconds) = member.is_loading(), member.at_work_on()
        function, jobs = member.function, member.finish()
        if status is LOST:
            self._lost_nurseries += 1
            if self._lost_nurseries > MOST_LOSSES * self._most:
                raise RewardError(
                    "the process that starts reward workers was killed again and again; is there a shortage of memory?"
                )
        elif not self._closing:
            self.restarts += 1
            if loading and function >= 0 and member.doom != "unwanted":
                self._refused[function] = why_not_loaded(self._functions[function].name, member.doom, status)
            if culprit is not None:
                jobs.remove(culprit)
                culprit.fail(failure_at(member.doom, status, self._patience.timeout_s, self._memory_bytes))
                if member.doom == "timeout":
                    self._suspicions.note_timeout(function, seconds)
                elif member.doom is None:  # whatever the function did, it did not hang
                    self._waiting.extend(self._suspicions.drop(function))
        member.close()
        self._give_back(jobs, blame=culprit is None and member.doom is None)

    def _give_back(self, jobs: Sequence[Job], *, blame: bool = True) -> None:
        """To the front of the queue, but for those that bring misfortune; blame: nobody knows which of them it was."""
        for job in reversed(jobs):
            job.losses += blame
            if job.losses > MOST_LOSSES:
                job.fail(Failure(f"{job.losses} workers ended before they could judge it", "killed"))
            else:
                self._waiting.appendleft(job)

    def _unregister(self, member: CrewMember) -> None:
        if member.channel in self._selector.get_map():
            self._selector.unregister(member.channel)

    def _stop_all(self, error: Exception) -> None:
        jobs = [job for job in self._open if not job.is_settled]
        while self._inbox:
            entry = self._inbox.popleft()
            if isinstance(entry, Job):
                jobs.append(entry)
        for job in jobs:
            job.ticket.stop(error)

    def _part(self) -> None:
        """The workers' channels are closed, which ends the idle ones after their functions' `close`; then all are killed."""
        self._stop_all(RewardError("the scorer was closed before the verdict was given"))
        for member in self._crew.values():
            self._unregister(member)
            if member.is_idle:
                member.channel.close()
            else:
                self._doom(member, "unwanted")
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        killed = False
        while self._crew:
            if time.monotonic() > deadline:
                if killed:
                    break
                for member in self._crew.values():
                    self._doom(member, "unwanted")
                killed, deadline = True, time.monotonic() + CLOSE_TIMEOUT_S * 10
            for _ in self._selector.select(LOOK_EVERY_S):
                self._woken.recv(4096)
            while self._inbox:
                entry = self._inbox.popleft()
                if isinstance(entry, tuple):
                    self._crew.pop(entry[0], None)
