"""Signs of life: a replica says once a second that its process runs, whatever its engine is doing.

    replica: a thread of its own  --datagram with the replica's key-->  driver: read when somebody asks

A process that is stopped, swapped out or cut off is silent; one that works on a long answer is not. A key that was never
heard says nothing: where datagrams do not come through, nobody is taken for dead.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

BEAT_S = 1.0
"""Seconds between two signs of life."""

KEY_BYTES = 16


@dataclass(frozen=True)
class PulseAddress:
    """Where a replica sends its signs of life, and as whom."""

    host: str
    port: int
    key: bytes


class PulseListener:
    """Hears the replicas of one driver. host: an address of this machine that their nodes can reach."""

    def __init__(self, host: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[bytes, float | None] = {}
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))

    def new_address(self) -> PulseAddress:
        """For one more replica."""
        key = secrets.token_bytes(KEY_BYTES)
        self._heard[key] = None
        host, port = self._socket.getsockname()[:2]
        return PulseAddress(host, port, key)

    def silent_for(self, address: PulseAddress) -> float | None:
        """Seconds since the last sign of life was read; None if there never was one."""
        self._read()
        heard = self._heard.get(address.key)
        return None if heard is None else self._clock() - heard

    def forget(self, address: PulseAddress) -> None:
        self._heard.pop(address.key, None)

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        """What has come is waiting in the system's buffer, so a driver that was busy elsewhere misses nothing."""
        now = self._clock()
        while True:
            try:
                key = self._socket.recv(KEY_BYTES + 1)
            except OSError:  # nothing is left, or the listener is closed
                return
            if key in self._heard:
                self._heard[key] = now


class Pulse:
    """Signs of life of this process, from a thread, until `stop`."""

    def __init__(self, address: PulseAddress) -> None:
        self._address = address
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="rlkit-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        address = self._address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            while True:
                # The network may come back; the driver decides what silence means.
                with suppress(OSError):
                    sender.sendto(address.key, (address.host, address.port))
                if self._stopped.wait(BEAT_S):
                    return
