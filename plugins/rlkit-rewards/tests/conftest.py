"""An HTTP server on the loopback interface that does what a test tells it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Reply:
    """status 0: the connection is reset; body: text or what becomes JSON; seconds: before the first byte."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class PatientServer(ThreadingHTTPServer):
    """Ends with the process, and has room for every client of a test while a busy machine lets nobody accept them."""

    daemon_threads = True
    request_queue_size = 128


class ScriptedServer:
    """Answers each request with `script(path, body)`, and remembers what came."""

    def __init__(self) -> None:
        self.script: Callable[[str, Any], Reply] = lambda path, body: Reply({"score": 1.0})
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.in_progress = self.most_at_once = 0
        self._lock = threading.Lock()
        self._server = PatientServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    outer.bodies.append(body)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.connections.add(self.client_address)
                    outer.in_progress += 1
                    outer.most_at_once = max(outer.most_at_once, outer.in_progress)
                try:
                    self._send(outer.script(self.path, body))
                finally:
                    with outer._lock:
                        outer.in_progress -= 1

            def _send(self, reply: Reply) -> None:
                time.sleep(reply.seconds)
                if reply.status == 0:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                data = text.encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-length": str(len(data)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client has left
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
