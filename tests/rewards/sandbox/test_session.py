"""How a sandbox ends."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from rlkit.rewards.sandbox import BubblewrapSandbox, Run
from rlkit.rewards.sandbox.session import Session

PATIENCE_S = 60.0

ASKING = """
from rlkit.rewards.sandbox import BubblewrapSandbox, Check, Limits, Run
from rlkit.rewards.sandbox.session import Session
send, find, calls = Session._send, Session._find_init, []
def tell_init(session, *arguments):
    find(session, *arguments)
    if START:
        print(session._init_pid, flush=True)
def tell_task(session, *arguments):
    send(session, *arguments)
    calls.append(arguments)
    if not START and len(calls) == 2:  # the job, then the task
        print(session._init_pid, flush=True)
Session._find_init, Session._send = tell_init, tell_task
limits = Limits(wall_s=600, cpu_s=600, total_s=600)
program = chr(10).join(["import time", "def f(x):", "    while True: time.sleep(1)", "if __name__ != 'solution': f(1)"])
list(BubblewrapSandbox(limits).run(program, [TASK]))
"""


@pytest.mark.parametrize("task", ["Run()", "Check('assert f(1)', 'f')"])
@pytest.mark.parametrize("at_the_start", [True, False])
def test_it_ends_with_the_process_that_asked_however_that_ends(works: None, task: str, at_the_start: bool) -> None:
    asking = ASKING.replace("TASK", task).replace("START", str(at_the_start))
    for _ in range(5 if at_the_start else 1):  # the start has moments of its own
        with subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = os.pidfd_open(int(process.stdout.readline()))
            process.kill()
        poll = select.poll()
        poll.register(first, select.POLLIN)
        is_gone = bool(poll.poll(PATIENCE_S * 1000))
        os.close(first)
        assert is_gone


@pytest.mark.parametrize("source", ["pass", "import os\nos.kill(os.getppid(), 9)", "import os\nos.kill(-1, 9)"])
def test_no_dead_process_is_left(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Where the machine's first process asks nobody how it ended, as in a container, dead ones would pile up."""
    found: list[int] = []
    find = Session._find_init

    def remember(session: Session, *arguments: int) -> None:
        find(session, *arguments)
        found.append(session._init_pid)

    monkeypatch.setattr(Session, "_find_init", remember)
    list(sandbox.run(source, [Run(), Run()]))
    assert len(found) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)
