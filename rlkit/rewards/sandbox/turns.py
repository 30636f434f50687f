"""As many programs at once as there are cores, whichever processes start them: more would only wait for each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rlkit.errors import TransientRewardError
from rlkit.rewards.answer_clock import answer_clock

ASK_EVERY_S = 0.02
MOST_S = 3600.0
"""Every turn ends by its program's limits; who waits longer waits for something that is not one of ours."""


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Waits for one, without time for the answer at hand. The kernel ends it with its process, however that ends.

    Where the folder for temporary files cannot be written, nobody waits.
    """
    descriptor = _take()
    answer_clock.restart()
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def turns_at_once() -> int:
    return len(os.sched_getaffinity(0))


def _take() -> int | None:
    folder = Path(tempfile.gettempdir()) / f"rlkit-turns-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            return None
        ends = time.monotonic() + MOST_S
        while time.monotonic() < ends:
            for number in range(turns_at_once()):
                descriptor = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    os.close(descriptor)
            answer_clock.restart()
            time.sleep(ASK_EVERY_S)
    except OSError:
        return None
    raise TransientRewardError(f"no turn to run a program within {MOST_S:g} s; {folder} is held by another process")
