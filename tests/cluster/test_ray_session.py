"""What is known of Ray's processes; Ray itself is in tests/integration."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from rlkit.cluster.ray_session import RaySession, _child_named, _is_running
from rlkit.errors import ClusterError

SLEEPER = (
    "import ctypes, time; ctypes.CDLL(None).prctl(15, b'a ) b (c', 0, 0, 0); print('named', flush=True); time.sleep(60)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_the_node_process_is_found_among_the_children_and_its_end_is_noticed() -> None:
    """A killed child stays in the process table until it is waited for: that is not running."""
    child = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert _child_named("a ) b (c") == child.pid
        assert _child_named("no such name") is None
        session = RaySession(None, started_here=False, joined_here=False)
        session._raylet = child.pid
        session.check_alive()
        child.kill()
        deadline = time.monotonic() + 60
        while _is_running(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ClusterError, match=rf"raylet, process {child.pid}\) has died"):
            session.check_alive()
    finally:
        child.kill()
        child.communicate()
    assert _is_running(os.getpid())


def test_an_address_without_ray_is_one_line() -> None:
    code = (
        "from rlkit.cluster.ray_session import ClusterSettings, open_ray\n"
        "from rlkit.errors import ClusterError\n"
        "try:\n    open_ray(ClusterSettings(address='127.0.0.1:1'))\n"
        "except ClusterError as error:\n    print('LINE', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("LINE")]
    assert len(lines) == 1, done.stdout + done.stderr
    assert "no Ray could be joined at cluster.address = 127.0.0.1:1" in lines[0]
