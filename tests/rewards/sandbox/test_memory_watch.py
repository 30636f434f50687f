"""Memory of a family of processes."""

from __future__ import annotations

import os
import subprocess
import sys

from rlkit.rewards.sandbox.memory_watch import held_bytes

HOLDER = """
import subprocess, sys
held = bytearray(b"x" * (40 * 2**20))
child = subprocess.Popen([sys.executable, "-c", "held = bytearray(b'x' * (60 * 2**20)); print(flush=True); input()"])
child.wait()
"""


def test_the_memory_of_children_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdout is not None
        family.stdout.readline()
        held = held_bytes(family.pid) / 2**20
        family.communicate(b"\n")
    assert 100 <= held < 150


def test_a_process_that_is_gone_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert held_bytes(child.pid) == 0
    assert held_bytes(os.getpid()) > 0
