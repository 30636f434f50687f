"""Ends a run as an out-of-memory killer or a lost machine would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

PATIENCE_S = 400


def kill_after(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Kill every process of the run, which leads its own group, when the checkpoint of `step`, or a later one, is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(folder.name >= f"step_{step:06d}" for folder in (run / "checkpoints").glob("step_*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no checkpoint of step {step} in {PATIENCE_S} s"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
