"""The process of `rlkit serve` around a server that an engine brings: its start, its signals, what it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0

OWN = """
import asyncio
import multiprocessing
import os
import sys
import time
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def complete(request):
    awaited = (await request.json())["prompt"]
    while not os.path.exists(awaited):
        await asyncio.sleep(0.01)
    return JSONResponse({"choices": []})


class Engine:
    failure = ""
    app = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])

    @classmethod
    @asynccontextmanager
    async def serve(cls, options, *, model, settings):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        try:
            if settings.model_name == "late":
                print("starting", flush=True)
                time.sleep(600)
            yield cls()
        finally:
            child.kill()
            print("closed", file=sys.stderr, flush=True)
"""

LATE = ["--model", "first", "--model-name", "late", "--engine", "own.py:Engine", "--port", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def start(start_server: Callable[..., Any], byte_model: Path) -> Callable[..., Any]:
    (byte_model / "own.py").write_text(OWN)

    def run(*arguments: str) -> Any:
        return start_server(byte_model, "--model", "first", "--engine", "own.py:Engine", *arguments)

    return run


def ask(server: Any, awaited: Path) -> httpx.Response:
    """An answer that is made once there is a file."""
    body = {"prompt": str(awaited), "max_tokens": 1}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def children(server: Any) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children()
    assert found
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_finishes_what_runs_and_closes_the_engine(
    start: Any, tmp_path: Path, number: signal.Signals
) -> None:
    server, go = start(), tmp_path / "go"
    started = children(server)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, go)
        until(lambda: server.metric("rlkit_answers_in_progress") == 1)
        server.process.send_signal(number)
        until(lambda: not server.is_ready())
        refused = ask(server, go)
        go.touch()
        assert refused.json()["error"]["code"] == "stopping"
        assert running.result().status_code == 200
    told = server.end()
    assert server.process.returncode == 0
    assert "1 answers in progress are finished first" in told and told.endswith("closed\n")
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_the_second_signal_ends_everything_at_once(start: Any, tmp_path: Path) -> None:
    server = start()
    started = children(server)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, tmp_path / "never")
        until(lambda: server.metric("rlkit_answers_in_progress") == 1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.is_ready())
        server.process.send_signal(signal.SIGTERM)
        server.end()
        assert isinstance(running.exception(), httpx.HTTPError)
    assert server.process.returncode == 130
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_what_takes_longer_than_the_drain_is_told_so(start: Any, tmp_path: Path) -> None:
    server = start("--set", "serve.drain_timeout_s=0.3")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, tmp_path / "never")
        until(lambda: server.metric("rlkit_answers_in_progress") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert running.result().status_code == 503
    assert "given up after 0.3 s" in server.end()
    assert server.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_in_order(start: Any, byte_model: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rlkit", "serve", *LATE],
        cwd=byte_model,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        started = psutil.Process(process.pid).children()
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "closed" in told and "Traceback" not in told
    assert not psutil.wait_procs(started, timeout=60)[1]
