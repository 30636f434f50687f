"""What of the server needs no vLLM to be started; the rest is in rlkit's tests/integration/test_serve_vllm.py."""

from __future__ import annotations

import subprocess
import sys

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
    import psutil

    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        children = [psutil.Process(int(number)) for number in server.stdout.readline().split()]
        assert all(child.is_running() for child in children)
        server.kill()
        server.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) == 2 and not alive
