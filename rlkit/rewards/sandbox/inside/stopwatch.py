"""How long a task has taken, and how much of that was the machine's doing rather than the program's."""

from __future__ import annotations

import os
import resource
import time

LOOK_EVERY_S = 0.05
NANOSECOND = 1e-9


class Stopwatch:
    """The time of one task, which begins now.

    wall_s  seconds after which the task is over; those in which it was ready to run and had no core do not count
    most_s  seconds after which it is over all the same
    cpu_s   CPU seconds of all processes together after which waiting is no excuse any more

    looks   whether every process in /proc but this one is the task's, as for the first process of a namespace; where not, or
            where the kernel does not tell how long they wait, all time counts
    """

    def __init__(self, wall_s: float, *, most_s: float, cpu_s: float, looks: bool) -> None:
        self.wall_s, self.most_s, self.cpu_limit_s = min(wall_s, most_s), most_s, cpu_s
        self.waited_s = self.cpu_s = 0.0
        self._looks = looks
        self._started = self._looked = time.monotonic()
        self._times: dict[str, tuple[int, int]] = {}  # of each thread: nanoseconds on a core, and waiting for one
        self._reaped_s = _reaped_cpu_s()

    @property
    def ends(self) -> float:
        """When it is over at the latest, on the clock `time.monotonic`."""
        return self._started + self.most_s

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def look(self) -> None:
        """To be called often: what a process waited for is lost with it."""
        now = time.monotonic()
        since = now - self._looked
        if not self._looks or since < LOOK_EVERY_S:
            return
        self._looked = now
        found = _thread_times()
        waited = 0
        for thread, (_, waiting) in found.items():
            before = self._times.get(thread, (0, 0))[1]
            waited += waiting - before if waiting >= before else waiting  # less: another one of the same number
        # Processes that wait beside each other do not wait longer than the clock says.
        self.waited_s += min(since, waited * NANOSECOND)
        self._times.update(found)
        living = sum(running for running, _ in found.values()) * NANOSECOND
        known = sum(running for running, _ in self._times.values()) * NANOSECOND
        self.cpu_s = max(self.cpu_s, known, living + _reaped_cpu_s() - self._reaped_s)

    def is_over(self) -> bool:
        elapsed = self.elapsed()
        if elapsed < self.wall_s:
            return False
        return elapsed - self.waited_s >= self.wall_s or self.cpu_s >= self.cpu_limit_s or elapsed >= self.most_s

    def left_s(self) -> float:
        """Seconds after which it can be over; at least one in a thousand."""
        elapsed = self.elapsed()
        counted = self.wall_s - (elapsed - self.waited_s)
        return max(0.001, min(counted, self.most_s - elapsed))


def _thread_times() -> dict[str, tuple[int, int]]:
    """Of all threads of other processes."""
    found: dict[str, tuple[int, int]] = {}
    own = str(os.getpid())
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or name == own:
            continue
        try:
            for thread in os.listdir(f"/proc/{name}/task"):  # noqa: PTH208
                with open(f"/proc/{name}/task/{thread}/schedstat", encoding="ascii") as file:  # noqa: PTH123
                    running, waiting, _ = map(int, file.read().split())
                found[thread] = (running, waiting)
        except (OSError, ValueError):
            continue
    return found


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
