"""Running the server that an engine brings, behind rlkit's own front."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import FrameType

from rlkit.protocols import ServedApp
from rlkit.serving.front import Front
from rlkit.serving.server import serve_until_stopped
from rlkit.types.server_settings import ServerSettings


def run_engine_server(
    opening: AbstractAsyncContextManager[ServedApp],
    settings: ServerSettings,
    listener: socket.socket,
    ready: Callable[[str], None],
    *,
    folder: Path,
) -> None:
    """Start the server, serve until a signal has stopped it, and close it; `ready` gets the URL once requests are answered.

    folder: of the model being served. A signal before that raises `KeyboardInterrupt`, so that whatever the engine has
    started is ended in order.
    """

    async def serve() -> None:
        async with opening as served:
            front = Front(served, settings, folder=folder)
            await serve_until_stopped(front, front.gate, settings, listener, ready)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    asyncio.run(serve())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
