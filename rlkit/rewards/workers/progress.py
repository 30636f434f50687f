"""What a worker is doing right now, readable by the trainer at any moment, even when the worker hangs or is dead."""

from __future__ import annotations

import mmap
import os
import struct
import time

_SERIAL = struct.Struct("<q")
_STARTED = struct.Struct("<d")
_STARTED_AT = 8
_SIZE = 16

IDLE, LOADING = -1, -2


class Progress:
    """A page of memory that two processes share: which call is running, by its number in the worker's life, and since when."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, _SIZE)
        os.close(descriptor)

    @staticmethod
    def create() -> tuple[Progress, int]:
        """One to read, and a descriptor for the process that writes."""
        descriptor = os.memfd_create("rlkit reward worker")
        os.ftruncate(descriptor, _SIZE)
        progress = Progress(os.dup(descriptor))
        progress.idle()
        return progress, descriptor

    def begin(self, serial: int) -> None:
        """Call number `serial` (from 0), or `LOADING`, begins now."""
        # The reader must never see this call together with the time of the one before.
        _SERIAL.pack_into(self._page, 0, IDLE)
        _STARTED.pack_into(self._page, _STARTED_AT, time.monotonic())
        _SERIAL.pack_into(self._page, 0, serial)

    def idle(self) -> None:
        _SERIAL.pack_into(self._page, 0, IDLE)

    def read(self) -> tuple[int, float]:
        """(number of the call, seconds that it has taken); (IDLE, 0.0) between calls."""
        serial: int = _SERIAL.unpack_from(self._page, 0)[0]
        started: float = _STARTED.unpack_from(self._page, _STARTED_AT)[0]
        again: int = _SERIAL.unpack_from(self._page, 0)[0]
        if serial == IDLE or again != serial:
            return IDLE, 0.0
        return serial, time.monotonic() - started

    def close(self) -> None:
        self._page.close()
