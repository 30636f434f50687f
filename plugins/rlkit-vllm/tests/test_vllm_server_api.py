"""What of the server needs no vLLM to be started; the rest is in rlkit's tests/integration/test_serve_vllm.py."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import os, subprocess, sys, time

code = "import os, sys; from rlkit_vllm.vllm_server_api import _end_with; print('ready', flush=True); "
code += "_end_with(int(sys.argv[1]), int(sys.argv[2]))"
# A worker whose parent is not the server: the server ends, and so must both.
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
worker = subprocess.Popen([sys.executable, "-c", code, str(os.getpid()), str(engine.pid)], stdout=subprocess.PIPE, text=True)
worker.stdout.readline()
print(engine.pid, worker.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_server_leaves_no_engine() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        children = [psutil.Process(int(number)) for number in server.stdout.readline().split()]
        assert all(is_running(child) for child in children)
        server.kill()
        server.wait()
    deadline = time.monotonic() + 120
    while running := [child for child in children if is_running(child)]:
        assert time.monotonic() < deadline, f"still running: {running}"
        time.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    """An orphan that has ended stays listed until its new parent asks for it, which in a container may be never."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
