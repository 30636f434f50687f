"""vLLM's own server behind `rlkit serve`; what it shares with rlkit's is asked of both in test_serve_openai.py."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from leaving import ask_and_leave

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

KEY = {"authorization": "Bearer test-key"}
QUESTION: Any = [{"role": "user", "content": "1+2="}]
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
QUEUE = 8
MAX_BODY_BYTES = 20_000
PATIENCE_S = 120.0
DEFAULT_TOKENS = 17


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], byte_model: Path) -> Any:
    settings = {
        "serve.api_key_env": "SERVE_KEY",
        "serve.weights_folders": byte_model,
        "serve.weights_key_env": "ADMIN_KEY",
        "serve.max_queue": QUEUE,
        "serve.max_body_bytes": MAX_BODY_BYTES,
        "serve.default_max_tokens": DEFAULT_TOKENS,
    }
    assignments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    keys = {"SERVE_KEY": "test-key", "ADMIN_KEY": "very-secret"}
    return start_server(byte_model, "--model", "first", "--engine", "vllm", *assignments, **keys)


def ask(server: Any, tokens: int, **more: Any) -> httpx.Response:
    """An answer of exactly so many tokens."""
    body = {"model": "first", "prompt": "ab", "max_tokens": tokens, "ignore_eos": True, **more}
    return httpx.post(f"{server.url}/v1/completions", json=body, headers=KEY, timeout=300)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def in_progress(server: Any, count: int) -> Callable[[], bool]:
    return lambda: server.metric("rlkit_answers_in_progress") == count


def generated(server: Any) -> float:
    return server.metric('vllm:generation_tokens_total{engine="0",model_name="first"}')


def test_it_is_vllms_own_server(server: Any) -> None:
    assert httpx.get(f"{server.url}/version", headers=KEY, timeout=PATIENCE_S).json()["version"].startswith("0.")
    (model,) = httpx.get(f"{server.url}/v1/models", headers=KEY, timeout=PATIENCE_S).json()["data"]
    assert (model["id"], model["owned_by"]) == ("first", "vllm")
    before = generated(server)
    assert ask(server, 5).status_code == 200
    until(lambda: generated(server) == before + 5)


def test_an_answer_names_its_policy(server: Any) -> None:
    answer = ask(server, 3)
    assert (answer.headers["x-rlkit-policy-version"], answer.json()["policy_version"]) == ("0", 0)
    lines = [line for line in ask(server, 3, stream=True).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    versions = [json.loads(line.removeprefix("data: "))["policy_version"] for line in lines[:-1]]
    assert versions and set(versions) == {0}  # an event for each token, or for several


def test_tool_calls_are_parsed(server: Any) -> None:
    """The model, whose weights are random, is made to write a call."""
    more: Any = {"extra_body": {"structured_outputs": {"choice": [CALL]}}, "tools": TOOLS, "max_tokens": 120}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="test-key", max_retries=0) as client:
        asked = client.chat.completions.create(model="first", messages=QUESTION, **more).choices[0]
        assert asked.finish_reason == "tool_calls" and asked.message.tool_calls is not None
        (call,) = asked.message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})
        events = list(client.chat.completions.create(model="first", messages=QUESTION, stream=True, **more))
        calls = [call for event in events for call in event.choices[0].delta.tool_calls or ()]
        assert "".join(call.function.name or "" for call in calls if call.function) == "add"
        assert json.loads("".join(call.function.arguments or "" for call in calls if call.function)) == {"a": 1}


def test_log_probs_are_those_before_top_k(server: Any) -> None:
    """As the trainer recomputes them; vLLM's own would be those of the raw logits, or of the tokens that are left."""
    greedy = ask(server, 6, temperature=0, logprobs=0).json()["choices"][0]
    only_one = ask(server, 6, temperature=0.5, top_k=1, logprobs=0).json()["choices"][0]
    assert only_one["text"] == greedy["text"]
    cold, warm = only_one["logprobs"]["token_logprobs"], greedy["logprobs"]["token_logprobs"]
    assert all(w < c < 0 for w, c in zip(warm, cold, strict=True))


def test_a_chat_without_a_limit_gets_the_default(server: Any) -> None:
    body = {"model": "first", "messages": QUESTION, "ignore_eos": True}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=KEY, timeout=300).json()
    assert answer["usage"]["completion_tokens"] == DEFAULT_TOKENS


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/pooling", "/invocations", "/nonsense"])
def test_every_address_needs_the_key(server: Any, path: str) -> None:
    response = httpx.post(f"{server.url}{path}", json={"model": "first", "prompt": "x"}, timeout=PATIENCE_S)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_what_cannot_be_is_told_as_openai_tells_it(server: Any) -> None:
    url = f"{server.url}/v1/completions"
    with httpx.Client(headers=KEY, timeout=PATIENCE_S) as client:
        too_long = client.post(url, json={"model": "first", "prompt": "x" * MAX_BODY_BYTES})
        not_json = client.post(url, content=b'{"prompt": NaN}', headers={"content-type": "application/json"})
        a_form = client.post(url, content=b"{}", headers={"content-type": "text/plain"})
        nowhere = client.post(f"{server.url}/v1/nowhere", json={})
        wrong_method = client.get(url)
    responses = (too_long, not_json, a_form, nowhere, wrong_method)
    assert [response.status_code for response in responses] == [413, 400, 415, 404, 405]
    assert all(set(response.json()["error"]) == {"message", "type", "param", "code"} for response in responses)


def test_pages_of_other_sites_may_not_ask(server: Any) -> None:
    headers = {**KEY, "origin": "https://example.com"}
    answer = httpx.get(f"{server.url}/v1/models", headers=headers, timeout=PATIENCE_S)
    assert "access-control-allow-origin" not in answer.headers


def test_a_full_queue_is_429(server: Any) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:

        def keep_it_full() -> set[int]:
            answers = []
            while not stop.is_set():
                answers.append(ask(server, 400, n=QUEUE))
            assert all(len(answer.json()["choices"]) == QUEUE for answer in answers if answer.status_code == 200)
            return {answer.status_code for answer in answers}

        running = [pool.submit(keep_it_full) for _ in range(2)]
        until(lambda: ask(server, 1).status_code == 429)
        stop.set()
        assert set().union(*(each.result() for each in running)) == {200, 429}
    assert ask(server, 1, n=QUEUE + 1).status_code == 400
    refused = server.metric('rlkit_http_requests_total{endpoint="/v1/completions",status="429"}')
    assert refused >= 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_work(server: Any, stream: bool) -> None:
    body = {"model": "first", "prompt": "ab", "max_tokens": 480, "n": QUEUE, "stream": stream, "ignore_eos": True}
    url, gone = f"{server.url}/v1/completions", 'rlkit_http_requests_total{endpoint="/v1/completions",status="499"}'
    before = server.metric(gone)
    if stream:
        with httpx.stream("POST", url, json=body, headers=KEY, timeout=PATIENCE_S) as response:
            assert next(response.iter_text())
    else:
        ask_and_leave(url, body, headers=KEY, is_asked=in_progress(server, QUEUE))
    until(lambda: server.metric(gone) == before + 1)
    assert in_progress(server, 0)()
    until(lambda: server.metric('vllm:num_requests_running{engine="0",model_name="first"}') == 0)
    assert ask(server, 2).status_code == 200


def test_new_weights_are_loaded_without_losing_a_request(server: Any) -> None:
    greedy: Any = {"temperature": 0, "prompt": "a long prompt, which vLLM keeps in its prefix cache " * 4}
    before = ask(server, 12, **greedy).json()["choices"][0]["text"]
    answers: list[httpx.Response] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():  # an answer leaves the queue a moment after its client has it: there is room for both
            answers.append(ask(server, 30, stream=len(answers) % 2 == 1))

    askers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for asker in askers:
        asker.start()
    texts, versions = [], []
    for name in ("second", "first", "second"):
        response = httpx.post(
            f"{server.url}/v1/weights",
            json={"path": name},
            headers={"authorization": "Bearer very-secret"},
            timeout=300,
        )
        assert response.status_code == 200, response.text
        versions.append(response.json()["policy_version"])
        texts.append(ask(server, 12, **greedy).json()["choices"][0]["text"])
    stop.set()
    for asker in askers:
        asker.join()
    assert versions == [1, 2, 3]
    assert texts[0] == texts[2] != before == texts[1]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-rlkit-policy-version"] for answer in answers} <= {"0", "1", "2", "3"}
    assert all(
        answer.text.endswith("data: [DONE]\n\n") if "event-stream" in answer.headers["content-type"]
        else answer.json()["usage"]["completion_tokens"] == 30
        for answer in answers
    )  # fmt: skip
    wrong = httpx.post(f"{server.url}/v1/weights", json={"path": "first"}, headers=KEY, timeout=PATIENCE_S)
    assert wrong.status_code == 401
    assert server.metric("rlkit_weight_updates_total") == 3
    assert server.metric("rlkit_policy_version") == 3


def test_ctrl_c_finishes_what_runs_and_leaves_no_process(server: Any) -> None:
    started = psutil.Process(server.process.pid).children(recursive=True)
    assert started, "vLLM's engine is a process of its own"
    with ThreadPoolExecutor() as pool:
        many: Any = {"n": QUEUE // 2, "logprobs": 20}
        running = [pool.submit(ask, server, 480, stream=stream, **many) for stream in (False, True)]
        until(in_progress(server, QUEUE))
        os.killpg(server.process.pid, signal.SIGINT)
        until(lambda: not server.is_ready())
        refused = ask(server, 1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        whole, stream = (answer.result() for answer in running)
    assert whole.json()["usage"]["completion_tokens"] == 480 * (QUEUE // 2)
    assert stream.text.endswith("data: [DONE]\n\n")
    told = server.end()
    assert server.process.returncode == 0
    assert f"{QUEUE} answers in progress are finished first" in told
    assert "Traceback" not in told and "very-secret" not in told and "test-key" not in told
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
