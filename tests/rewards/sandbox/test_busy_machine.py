"""What a program gets done is judged, not what else the machine is doing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from rlkit.errors import TransientRewardError
from rlkit.rewards.sandbox import BubblewrapSandbox, Check, Limits, Run, Task

pytestmark = pytest.mark.slow

BUSY = 5
COMPUTES = """
import time
def work(seconds):
    while time.process_time() < seconds:
        pass
    return 1
if __name__ != "solution":
    work(1.2)
"""
ENDLESS = "def work(seconds):\n    while True: pass\nif __name__ != 'solution': work(0)"
SLEEPS = "import time\ndef work(seconds):\n    time.sleep(600)\nif __name__ != 'solution': work(0)"
TASKS = [Run(), Check("assert work(1.2) == 1", "work")]


@pytest.fixture
def one_busy_core(works: None) -> Iterator[None]:
    """This process, and all that it starts, on one core, beside processes that want it as well."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    spin = [sys.executable, "-c", "while True: pass"]
    # In sessions of their own: kernels that share a core among sessions first would give the program half of it.
    others = [subprocess.Popen(spin, start_new_session=True) for _ in range(BUSY)]
    yield
    for other in others:
        other.kill()
        other.wait()
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("task", TASKS, ids=["run", "check"])
def test_waiting_for_a_core_is_no_time_of_the_program(one_busy_core: None, task: Task) -> None:
    sandbox = BubblewrapSandbox(Limits(wall_s=3.0, cpu_s=3.0, total_s=120))
    (outcome,) = sandbox.run(COMPUTES, [task])
    assert outcome.status == "ok"
    assert outcome.wall_s > 3.0, "the core was not busy"
    assert outcome.wall_s - outcome.waited_s < 3.0


@pytest.mark.parametrize("task", TASKS, ids=["run", "check"])
@pytest.mark.parametrize("source", [ENDLESS, SLEEPS], ids=["endless", "sleeps"])
def test_what_never_ends_is_ended_all_the_same(one_busy_core: None, source: str, task: Task) -> None:
    sandbox = BubblewrapSandbox(Limits(wall_s=1.0, cpu_s=1.0, total_s=120))
    started = time.monotonic()
    (outcome,) = sandbox.run(source, [task])
    assert outcome.status in (
        "timeout",
        "error",
    )  # error: the judge has found its process ended by the limit on CPU time
    assert time.monotonic() - started < 100


@pytest.mark.parametrize("task", TASKS, ids=["run", "check"])
def test_a_program_that_hardly_ran_has_no_verdict(one_busy_core: None, task: Task) -> None:
    sandbox = BubblewrapSandbox(Limits(wall_s=5.0, cpu_s=20.0, total_s=5.0))
    with pytest.raises(TransientRewardError, match="the machine is too busy to judge a program"):
        list(sandbox.run(ENDLESS, [task]))


def test_sleep_is_no_excuse(one_busy_core: None) -> None:
    sandbox = BubblewrapSandbox(Limits(wall_s=3.0, cpu_s=20.0, total_s=3.0))
    assert [outcome.status for outcome in sandbox.run(SLEEPS, [Run(), Run()])] == ["timeout", "timeout"]
