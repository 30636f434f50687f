"""Ends a run as an out-of-memory killer or a lost machine would, at a place where it waits to be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 400

HOLD = """
import pathlib, time
from rlkit.plugin import hookimpl

class Hold:
    @hookimpl
    def step_finished(self, step):
        try:
            while step >= int(pathlib.Path("hold").read_text()):
                time.sleep(0.01)
        except FileNotFoundError:
            return
"""
HELD = ("--set", "run.hooks=['hold.py:Hold']")
"""Of a command that `held` is to hold."""


@contextmanager
def held(folder: Path, step: int) -> Iterator[None]:
    """Commands in `folder` stop at this step: on a busy machine they would be at their end before anybody looks."""
    (folder / "hold.py").write_text(HOLD)
    (folder / "hold").write_text(str(step))
    try:
        yield
    finally:
        (folder / "hold").unlink()


def kill_after(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Kill every process of the run, which leads its own group, when the checkpoint of `step`, or a later one, is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(folder.name >= f"step_{step:06d}" for folder in (run / "checkpoints").glob("step_*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no checkpoint of step {step} in {PATIENCE_S} s"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
