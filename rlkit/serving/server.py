"""The process around the application: its socket, its signals, its end.

first signal   new requests get 503, answers in progress are finished, then the server ends
second signal  the process ends at once
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, Protocol

import uvicorn
from starlette.applications import Starlette

from rlkit.errors import ConfigError
from rlkit.serving.context import ServingContext
from rlkit.types.server_settings import ServerSettings

STOPPED_AT_ONCE = 130
FLUSH_S = 5
"""How long responses may take to reach slow clients after the last answer was made."""


def bind(host: str, port: int) -> socket.socket:
    """A socket at the address that nobody can connect to yet. Raises `ConfigError` when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(
            f"serve.host = {host}: {error.strerror or error}; use 127.0.0.1, or 0.0.0.0 for all"
        ) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"serve.port = {port} of {host} cannot be had ({error.strerror or error}); "
            "choose another --port, or 0 for a free one"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8000`"""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Drainable(Protocol):
    """What is asked of the answers in progress when the server stops."""

    draining: bool
    in_progress: int

    async def wait_until_idle(self) -> None: ...

    def give_up(self) -> None: ...


def run_server(app: Starlette, context: ServingContext, listener: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until a signal has stopped it; `ready` gets the URL once requests are answered."""
    asyncio.run(serve_until_stopped(app, context.answering, context.settings, listener, ready))
    if context.engine.is_alive:
        leave()


async def serve_until_stopped(
    app: Callable[..., Awaitable[None]],
    answering: Drainable,
    settings: ServerSettings,
    listener: socket.socket,
    ready: Callable[[str], None],
) -> None:
    """As `run_server`, for any ASGI application, in the running event loop of the main thread."""
    if settings.access_log:
        _show_access_log()
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.access_log,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=FLUSH_S,
    )
    server = _Server(config, lambda: ready(url_of(listener)))
    stop = _Stop(server, answering, settings.drain_timeout_s)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.request)
    await server.serve(sockets=[listener])


def leave() -> NoReturn:
    """End now: an engine's thread may be deep in arithmetic, and the interpreter cannot end in order around it."""
    for process in multiprocessing.active_children():
        process.kill()
    print("stopped", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(STOPPED_AT_ONCE)


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to `_Stop`."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Stop:
    """What signals do."""

    def __init__(self, server: _Server, answering: Drainable, limit_s: float) -> None:
        self._server = server
        self._answering = answering
        self._limit_s = limit_s
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        if self._task is not None:
            leave()
        self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        answering, limit = self._answering, self._limit_s
        answering.draining = True
        left = answering.in_progress
        waiting = (
            f"{left} answers in progress are finished first (again to stop at once)" if left else "nothing to finish"
        )
        print(f"stopping: {waiting}", file=sys.stderr, flush=True)
        try:
            await asyncio.wait_for(answering.wait_until_idle(), limit)
        except TimeoutError:
            print(f"{answering.in_progress} answers are given up after {limit:g} s", file=sys.stderr, flush=True)
            answering.give_up()
        self._server.should_exit = True


def _show_access_log() -> None:
    logger = logging.getLogger("uvicorn.access")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.propagate = False
