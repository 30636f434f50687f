"""The process of `rlkit serve`: signals, clients that leave, new weights, keys that nobody sees."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from leaving import ask_and_leave

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
MANY = 500
"""Tokens that the slow engine needs most of a minute for."""

SLOW = """
import os
import time

from rlkit.testing.fake_serving import FakeServingEngine


def engine(model):
    return FakeServingEngine(model.tokenizer, delay_s=0.1, context_length=100_000)


class Held(FakeServingEngine):
    '''Goes on with an answer that is begun once there is the file GO.'''

    def step(self):
        while any(live.produced for live in self._live.values()) and not os.path.exists(os.environ["GO"]):
            time.sleep(0.01)
        return super().step()


def held(model):
    return Held(model.tokenizer, context_length=100_000)
"""
HUNG = """
import time

from rlkit.testing.fake_serving import FakeServingEngine


class Engine(FakeServingEngine):
    def step(self):
        time.sleep(3600)


def engine(model):
    return Engine(model.tokenizer)
"""


@pytest.fixture(scope="module")
def start(start_server: Callable[..., Any], byte_model: Path) -> Callable[..., Any]:
    (byte_model / "slow.py").write_text(SLOW)
    (byte_model / "hung.py").write_text(HUNG)

    def run(*arguments: str, engine: str = "slow.py:engine", **environment: str) -> Any:
        return start_server(byte_model, "--model", "first", "--engine", engine, *arguments, **environment)

    return run


def ask(server: Any, tokens: int, **more: Any) -> httpx.Response:
    body = {"model": "first", "prompt": "ab", "max_tokens": tokens, **more}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def in_progress(server: Any, count: int) -> Callable[[], bool]:
    return lambda: server.metric("rlkit_answers_in_progress") == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_finishes_what_runs_and_refuses_what_is_new(
    start: Any, tmp_path: Path, number: signal.Signals
) -> None:
    go = tmp_path / "go"
    server = start(engine="slow.py:held", GO=str(go))
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(ask, server, 150, stream=stream) for stream in (False, True)]
        until(in_progress(server, 2))
        server.process.send_signal(number)
        until(lambda: not server.is_ready())
        refused = ask(server, 1)
        go.touch()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        whole, stream = (answer.result() for answer in running)
    assert whole.json()["usage"]["completion_tokens"] == 150
    assert stream.text.endswith("data: [DONE]\n\n")
    told = server.end()
    assert server.process.returncode == 0
    assert "2 answers in progress are finished first" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("engine", ["slow.py:engine", "hung.py:engine"])
def test_the_second_signal_stops_at_once(start: Any, engine: str) -> None:
    server = start(engine=engine)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, MANY if engine == "slow.py:engine" else 100)
        until(in_progress(server, 1))
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.is_ready())
        server.process.send_signal(signal.SIGTERM)
        told = server.end()
        assert isinstance(running.exception(), httpx.HTTPError)
    assert server.process.returncode == 130
    assert told.endswith("stopped\n") and "Traceback" not in told


def test_what_takes_longer_than_the_drain_is_told_so(start: Any) -> None:
    server = start("--set", "serve.drain_timeout_s=0.3")
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(ask, server, MANY, stream=stream) for stream in (False, True)]
        until(in_progress(server, 2))
        server.process.send_signal(signal.SIGTERM)
        whole, stream = (answer.result() for answer in running)
    assert whole.status_code == 503
    assert '"error"' in stream.text.rstrip().rpartition("data: ")[2]
    assert "given up after 0.3 s" in server.end()
    assert server.process.returncode == 0


def test_an_engine_that_never_comes_back_does_not_keep_the_process(start: Any) -> None:
    server = start("--set", "serve.drain_timeout_s=0.3", engine="hung.py:engine")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server, 100)
        until(in_progress(server, 1))
        server.process.send_signal(signal.SIGTERM)
        assert running.result().status_code == 503
    assert server.end().endswith("stopped\n")
    assert server.process.returncode == 130


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_work(start: Any, stream: bool) -> None:
    server = start()
    body = {"model": "first", "prompt": "ab", "max_tokens": MANY, "stream": stream}
    url = f"{server.url}/v1/completions"
    if stream:
        with httpx.stream("POST", url, json=body, timeout=PATIENCE_S) as response:
            assert next(response.iter_text())
    else:
        ask_and_leave(url, body, is_asked=in_progress(server, 1))
    until(in_progress(server, 0))
    assert server.metric('rlkit_answers_total{end="unfinished"}') == 1

    def is_quiet() -> bool:
        before = server.metric("rlkit_generated_tokens_total")
        time.sleep(0.3)
        return bool(server.metric("rlkit_generated_tokens_total") == before)

    until(is_quiet)  # the engine may be in a step when it is told
    assert server.metric("rlkit_generated_tokens_total") < MANY
    assert ask(server, 2).status_code == 200


def test_a_full_queue_is_429_and_clients_that_try_again_are_all_answered(start: Any, tmp_path: Path) -> None:
    import openai

    go = tmp_path / "go"
    server = start("--set", "serve.max_queue=4", engine="slow.py:held", GO=str(go))
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(ask, server, 100) for _ in range(4)]
        until(in_progress(server, 4))
        refused = ask(server, 1)
        go.touch()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert all(answer.result().status_code == 200 for answer in running)

        def patient(number: int) -> str:
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=20) as client:
                answer = client.completions.create(model="first", prompt="ab", max_tokens=10)
            return answer.choices[0].finish_reason

        assert list(pool.map(patient, range(12))) == ["length"] * 12
    assert server.metric('rlkit_http_requests_total{endpoint="/v1/completions",status="429"}') >= 1


def test_new_weights_reach_a_real_engine_without_losing_a_request(
    start_server: Callable[..., Any], byte_model: Path
) -> None:
    options = ["--set", f"serve.weights_folders={byte_model}", "--set", "serve.weights_key_env=ADMIN_KEY"]
    server = start_server(byte_model, "--model", "first", *options, "--seed", "3", ADMIN_KEY="very-secret")
    more: Any = {"temperature": 0, "stop_token_ids": []}
    first = ask(server, 12, **more).json()
    assert first["policy_version"] == 0
    answers: list[httpx.Response] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(ask(server, 30, n=3))

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    headers = {"authorization": "Bearer very-secret"}
    versions = []
    for name in ("second", "first", "second"):
        response = httpx.post(f"{server.url}/v1/weights", json={"path": name}, headers=headers, timeout=PATIENCE_S)
        assert response.status_code == 200, response.text
        versions.append(response.json()["policy_version"])
    stop.set()
    for asker in askers:
        asker.join()
    assert versions == [1, 2, 3]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["policy_version"] for answer in answers} <= {0, 1, 2, 3}
    second = ask(server, 12, **more).json()
    assert second["policy_version"] == 3
    assert second["choices"][0]["text"] != first["choices"][0]["text"]
    headers = {"authorization": "Bearer no"}
    wrong = httpx.post(f"{server.url}/v1/weights", json={"path": "first"}, headers=headers, timeout=PATIENCE_S)
    assert wrong.status_code == 401
    assert server.metric("rlkit_weight_updates_total") == 3
    server.process.send_signal(signal.SIGTERM)
    assert "very-secret" not in server.end()


def test_an_engine_that_only_generates_is_served_too(start: Any, byte_model: Path) -> None:
    (byte_model / "plain.py").write_text(
        "from rlkit.testing.fakes import FakeEngine\n\n\ndef engine(model):\n    return FakeEngine(log_odds=50.0)\n"
    )
    server = start(engine="plain.py:engine")
    answer = ask(server, 5, n=3, return_token_ids=True).json()
    assert [choice["token_ids"] for choice in answer["choices"]] == [[1, 2]] * 3
    refused = ask(server, 5, logprobs=2)
    assert refused.status_code == 400
    assert "no alternatives" in refused.json()["error"]["message"]


def test_requests_are_logged_on_request(start: Any) -> None:
    server = start("--set", "serve.access_log=true", "--api-key-env", "THE_KEY", THE_KEY="hush")
    assert ask(server, 1).status_code == 401
    server.process.send_signal(signal.SIGINT)
    told = server.end()
    assert '"POST /v1/completions HTTP/1.1" 401' in told
    assert "hush" not in told


def test_a_run_with_a_project_file_says_where_it_is(byte_model: Path) -> None:
    import subprocess
    import sys

    (byte_model / "serve.toml").write_text(
        '[model]\npath = "first"\n\n[serve]\nport = 0\nmodel_name = "mine"\nengine = "slow.py:engine"\n'
    )
    (byte_model / "slow.py").write_text(SLOW)
    with subprocess.Popen(
        [sys.executable, "-m", "rlkit", "serve", "serve.toml"], cwd=byte_model, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("serving mine at http://127.0.0.1:") and line.endswith("/v1 (Ctrl-C stops)\n")
            url = line.split()[3]
            assert json.loads(httpx.get(f"{url}/models", timeout=PATIENCE_S).text)["data"][0]["id"] == "mine"
        finally:
            process.kill()
