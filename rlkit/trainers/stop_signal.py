"""Ctrl-C and SIGTERM: the first one lets the step end and saves, the second one stops at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ECHO_S = 2.0
"""torchrun passes a signal on to its processes, which a terminal has sent it already: so long the second one is the first."""

AFTER_THE_STEP = "after this step; its state will be saved"


class StopSignal:
    """Asked by the training loops after each step; `when` tells the user what that means."""

    def __init__(self, when: str = AFTER_THE_STEP) -> None:
        self.when = when
        self.requested = False
        self._requested_at = 0.0

    def request(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            if "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._requested_at < ECHO_S:
                return
            raise KeyboardInterrupt
        self.requested = True
        self._requested_at = time.monotonic()
        print(f"\nstopping {self.when} (again to stop at once)", file=sys.stderr, flush=True)


@contextmanager
def graceful_stop(when: str = AFTER_THE_STEP) -> Iterator[StopSignal]:
    """Install the handlers while a run is going on. Outside the main thread signals are left alone."""
    stop = StopSignal(when)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, stop.request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
