"""A process that ends with the one that started it, however that ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
"""Linux, prctl(2): the signal that this process gets when its parent ends."""

LOOK_EVERY_S = 1.0


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """From here on the end of the parent is the end of this process, even when it is stopped or stuck in a call.

    Where the system has no such thing, a thread looks every second. Meant for the beginning of a process.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it ended in between
        os.kill(os.getpid(), number)
    threading.Thread(target=_watch, args=(parent, number), name="parent watch", daemon=True).start()


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), number)
