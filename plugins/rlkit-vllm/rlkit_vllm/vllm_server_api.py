"""vLLM's own OpenAI server: the part of what depends on vLLM's version that is about serving.

this process                                      vLLM's engine process, and its workers
  FastAPI application of vLLM -> AsyncLLM  ------>  EngineCore
  load_weights                -> collective_rpc ->  vllm_api.WorkerCalls

Nothing of vLLM is imported with this module.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from rlkit.errors import ModelError
from rlkit_vllm.segments import written_segments
from rlkit_vllm.vllm_api import (
    ENVIRONMENT,
    SHUTDOWN_S,
    EngineSettings,
    WorkerCalls,
    check_platform,
    check_version,
    does_not_start,
    engine_arguments,
)

SERVER_ENVIRONMENT: Mapping[str, str] = {
    **ENVIRONMENT,
    "VLLM_CONFIGURE_LOGGING": "1",  # the engine's process has no loggers of ours: what goes wrong there is said by vLLM
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # an allowed host could send it to any other
    "PYTHONWARNINGS": "ignore",  # of vLLM's own dependencies, in the engine's process
    # A forked engine would keep the server's socket, and the locks of whatever threads there are.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Set where the user has set nothing."""


NO_HOST = "none.invalid"
"""No host has this name (RFC 2606)."""


@dataclass(frozen=True)
class FrontSettings:
    """What vLLM's server is told besides the engine's settings; see `rlkit.types.server_settings.ServerSettings`.

    tool_call_parser  vLLM's name of it; empty: calls stay text
    image_hosts       hosts that images may be fetched from
    """

    model_name: str
    default_max_tokens: int
    drain_timeout_s: float
    tool_call_parser: str
    image_hosts: tuple[str, ...]


@asynccontextmanager
async def vllm_server(settings: EngineSettings, front: FrontSettings) -> AsyncIterator[VLLMServer]:
    """vLLM's server while it runs. Raises `ModelError` when it cannot start."""
    check_version()
    for name, value in SERVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())  # until vLLM configures it
    # vLLM reads files below some folder, or takes a request that names one for a fault of its own; this one stays empty.
    with TemporaryDirectory() as no_files:
        server = await _start_server(settings, front, no_files)
        try:
            yield server
        finally:
            await server.close()


async def _start_server(settings: EngineSettings, front: FrontSettings, files: str) -> VLLMServer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_platform(settings.device)
        arguments = _arguments(settings, front, files)
        engine = _start_engine(settings, arguments)
        try:
            try:
                await engine.collective_rpc("rlkit_prepare")
                await engine.collective_rpc("rlkit_belong_to", args=(os.getpid(),))
                return VLLMServer(engine, await _application(engine, arguments))
            except Exception as error:
                raise does_not_start(settings, error) from error
        except BaseException:
            engine.shutdown(timeout=SHUTDOWN_S)
            raise


class VLLMServer:
    """A running server."""

    def __init__(self, engine: Any, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self._engine = engine

    @property
    def failure(self) -> str:
        """Why no request can be answered any more; empty while they can."""
        return "vLLM's engine is gone; its log says why, and a restart helps" if self._engine.errored else ""

    async def close(self) -> None:
        """End the engine's processes."""
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()  # or it reports the end of the engine as a fault
        # In a thread, so that a second signal is still heard.
        await asyncio.to_thread(self._engine.shutdown, timeout=SHUTDOWN_S)

    async def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights in place and forget everything computed with the old ones; nothing may be running.

        What `named_tensors` raises is raised; the weights are then a mixture, and may be loaded again.
        """
        engine = self._engine
        await engine.pause_generation(
            mode="wait", clear_cache=True
        )  # the engine hears of aborted requests a little later
        try:
            try:
                await engine.collective_rpc("rlkit_begin_weights")
                segments = written_segments(named_tensors)
                while (written := await asyncio.to_thread(next, segments, None)) is not None:
                    await engine.collective_rpc("rlkit_load_segment", args=written)
            finally:
                await engine.collective_rpc("rlkit_end_weights")
            await engine.reset_encoder_cache()
            if not await engine.reset_prefix_cache():
                raise ModelError("vLLM kept its prefix cache, which belongs to the old weights")
        finally:
            await engine.resume_generation()


def _arguments(settings: EngineSettings, front: FrontSettings, files: str) -> Any:
    """Those of `vllm serve`. Keys, limits and the socket are not among them: rlkit keeps those."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    changes = {
        **engine_arguments(settings),
        "enable_sleep_mode": False,
        "worker_extension_cls": f"{ServerWorkerCalls.__module__}.{ServerWorkerCalls.__qualname__}",
        "served_model_name": [front.model_name],
        "override_generation_config": {"max_new_tokens": front.default_max_tokens},
        "shutdown_timeout": int(front.drain_timeout_s) + 1,
        "allowed_origins": [],  # pages of other sites may not ask a server on this machine
        "enable_auto_tool_choice": bool(front.tool_call_parser),
        "tool_call_parser": front.tool_call_parser or None,
        "api_key": [],
        # An empty list would allow every host, those of the machine's own network too.
        "allowed_media_domains": list(front.image_hosts) or [NO_HOST],
        "allowed_local_media_path": files,
    }
    for name, value in changes.items():
        if not hasattr(arguments, name):
            raise AttributeError(f"vllm serve has no argument '{name}'")
        setattr(arguments, name, value)
    return arguments


def _start_engine(settings: EngineSettings, arguments: Any) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.launcher import validate_api_server_args
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        validate_api_server_args(arguments)
        return AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(arguments))
    except Exception as error:
        raise does_not_start(settings, error) from error


async def _application(engine: Any, arguments: Any) -> Callable[..., Awaitable[None]]:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    await engine.reset_mm_cache()  # of the start's dummy data
    tasks = await engine.get_supported_tasks()
    app = build_app(arguments, tasks, engine.model_config)
    await init_app_state(engine, app.state, arguments, tasks)
    app.state.server = _Stopper()
    for handler in app.state._state.values():
        if hasattr(handler, "override_max_tokens"):
            handler.override_max_tokens = None  # vLLM takes the default length for the longest allowed too
    application: Callable[..., Awaitable[None]] = app
    return application


class ServerWorkerCalls(WorkerCalls):
    """Beside those of an engine in the training process."""

    def rlkit_belong_to(self, server: int) -> None:
        """End with the process `server`, however that ends, and leave Ctrl-C to it: that reaches all of a terminal's."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(server, os.getppid()), daemon=True).start()


def _end_with(server: int, parent: int) -> None:
    """vLLM watches only its workers; the engine's process is this one, or the parent of several workers."""
    try:
        select.select([os.pidfd_open(server)], [], [])  # also for one that nobody has waited for yet
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # not on this system
        while os.getppid() == parent:
            time.sleep(1)
    if parent != server:
        with suppress(ProcessLookupError):
            os.kill(parent, signal.SIGKILL)
    os._exit(1)


@dataclass
class _Stopper:
    """Where vLLM says that its engine has died; `VLLMServer.failure` sees it too."""

    should_exit: bool = False
