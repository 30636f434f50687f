"""No more programs at once than cores, whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rlkit.rewards.answer_clock import answer_clock
from rlkit.rewards.sandbox.turns import turn, turns_at_once

HOLD = """
import sys, time
from rlkit.rewards.sandbox.turns import turn
with turn():
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def turns_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One core, and no other test's turns."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_threads_take_turns() -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with turn():
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_a_process_that_is_killed_gives_its_turn_back_and_waiting_is_no_time_of_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restarts: list[bool] = []

    def restart() -> None:
        """Once this has happened a few times, the one who has the turn is killed."""
        if len(restarts) == 3:
            holder.kill()
            holder.wait()
        restarts.append(holder.returncode is not None)

    monkeypatch.setattr(answer_clock, "_restart", restart)
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mine\n"
        with turn():
            assert restarts == [False, False, False, True, True]  # the last one when it had its turn


def test_without_a_folder_nobody_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"rlkit-turns-{os.geteuid()}").write_text("a file")
    with ExitStack() as held:
        for _ in range(turns_at_once() + 1):  # with a folder, the last one would wait for an end of the others
            held.enter_context(turn())
    assert (tmp_path / f"rlkit-turns-{os.geteuid()}").read_text() == "a file"
