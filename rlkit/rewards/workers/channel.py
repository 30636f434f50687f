"""Pickled messages over a stream socket."""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Iterator
from typing import Any

_LENGTH = struct.Struct("<Q")
_AT_ONCE = 1 << 16
SEND_TIMEOUT_S = 10.0
"""The other end always reads while it is sent to; when it does not, it is dead or stuck."""


class Channel:
    """One end of a connection between two processes that trust each other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.is_closed = False  # as far as has been read
        self._received = bytearray()

    def fileno(self) -> int:
        return self.connection.fileno()

    def send(self, message: object) -> None:
        """Raises `OSError` when nobody reads at the other end, and what pickle raises."""
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.connection.sendall(_LENGTH.pack(len(content)) + content)

    def receive(self) -> Any:
        """The next message, waited for. Raises `EOFError` when the other end is closed."""
        while True:
            for message in self._whole_messages():
                return message
            received = self.connection.recv(_AT_ONCE)
            if not received:
                raise EOFError
            self._received += received

    def take_what_is_there(self) -> Iterator[Any]:
        """All messages that have arrived whole; ends quietly at the end of the connection. The socket must have a timeout."""
        while True:
            try:
                # Not `recv`, which waits on a socket that has a timeout; underneath such a socket never blocks.
                received = os.read(self.connection.fileno(), _AT_ONCE)
            except BlockingIOError:
                break
            except ConnectionError:
                received = b""
            if not received:
                self.is_closed = True
                break
            self._received += received
        yield from self._whole_messages()

    def _whole_messages(self) -> Iterator[Any]:
        while len(self._received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received)
            end = _LENGTH.size + length
            if len(self._received) < end:
                return
            content = bytes(self._received[_LENGTH.size : end])
            del self._received[:end]
            yield pickle.loads(content)

    def close(self) -> None:
        self.connection.close()
