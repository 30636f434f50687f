"""A lock file, tried by real processes."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.tracking.sole_process import RunLock, sole_process

HOLD = """\
import sys, time
from pathlib import Path
from rlkit.tracking.sole_process import RunLock
with RunLock() as lock:
    lock.take(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock of `folder`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def take(folder: Path) -> None:
    with RunLock() as lock:
        lock.take(folder)


def test_a_folder_that_another_process_trains_in_is_refused_naming_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        line = (
            f"run folder {tmp_path} is being written by process {process.pid} on {platform.node()}: wait for its end, "
            "or choose another --name (run.name)"
        )
        with pytest.raises(ConfigError) as caught:
            take(tmp_path)
        assert str(caught.value) == line and caught.value.exit_code == 2


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / ".lock").exists()
        take(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_lock_may_be_taken_again_by_the_one_who_has_it(tmp_path: Path) -> None:
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.take(tmp_path)
        with pytest.raises(ConfigError, match=f"by process {os.getpid()} on"):
            take(tmp_path)
    take(tmp_path)


def test_the_file_of_someone_else_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with sole_process(path, str):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # as good as a folder without permission, for root too
    with pytest.raises(ConfigError, match=r"cannot write in run folder .* \(Is a directory\); choose another --output"):
        take(tmp_path)
