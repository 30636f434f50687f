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

OWN = """
import asyncio
import multiprocessing
import sys
import time
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def complete(request):
    body = await request.json()
    await asyncio.sleep(body["max_tokens"] / 50)
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


def ask(server: Any, tokens: int) -> httpx.Response:
    body = {"prompt": "ab", "max_tokens": tokens}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)


def until(condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def children(server: Any) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children()
    assert found
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_finishes_what_runs_and_closes_the_engine(start: Any, number: signal.Signals) -> None:
    server = start()
    started = children(server)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, 100)
        until(lambda: server.metric("rlkit_answers_in_progress") == 1)
        server.process.send_signal(number)
        until(lambda: httpx.get(f"{server.url}/health").status_code == 503)
        assert ask(server, 1).json()["error"]["code"] == "stopping"
        assert running.result().status_code == 200
    told = server.end()
    assert server.process.returncode == 0
    assert "1 answers in progress are finished first" in told and told.endswith("closed\n")
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_the_second_signal_ends_everything_at_once(start: Any) -> None:
    server = start()
    started = children(server)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, 3000)
        until(lambda: server.metric("rlkit_answers_in_progress") == 1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/health").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        server.end()
        assert isinstance(running.exception(), httpx.HTTPError)
    assert server.process.returncode == 130
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_what_takes_longer_than_the_drain_is_told_so(start: Any) -> None:
    server = start("--set", "serve.drain_timeout_s=0.3")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, 3000)
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
