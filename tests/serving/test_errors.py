"""What clients are told: OpenAI's shape, the right status, the parameter, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ErrorOf = Callable[[Any, int], dict[str, Any]]
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def served(serve: Any) -> Iterator[Any]:
    with serve() as running:
        yield running


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b"\xff\xfe{}", b"nope", b'{"model": "tiny"', b"[" * 5000])
def test_a_body_that_is_no_json(served: Any, error_of: ErrorOf, url: str, body: bytes) -> None:
    response = served.client.post(url, content=body, headers={"content-type": "application/json"})
    error = error_of(response, 400)
    assert error["code"] == "invalid_json"
    assert error["type"] == "invalid_request_error"
    assert "not valid JSON" in error["message"]


@pytest.mark.parametrize("value", ["[]", '"x"', "3", "null", "true"])
def test_a_body_that_is_no_object(served: Any, error_of: ErrorOf, value: str) -> None:
    headers = {"content-type": "application/json"}
    error_of(served.client.post("/v1/chat/completions", content=value, headers=headers), 400)


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": "5"}, "max_tokens", "valid integer"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"n": 1000}, "n", "less than or equal to 128"),
        ({"stop": 5}, "stop", "valid string; or: Input should be a valid array"),
        ({"messages": "hi"}, "messages", "valid array"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "'user'"),
        ({"model": None}, "model", "valid string"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"messages": [{"role": "user"}]}, "messages[0]", "a message needs content"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "match pattern"),
    ],
)
def test_wrong_types_and_values_name_the_parameter(
    served: Any, error_of: ErrorOf, more: dict[str, Any], param: str, message: str
) -> None:
    error = error_of(served.client.post("/v1/chat/completions", json={**CHAT, **more}), 400)
    assert error["param"] == param
    assert error["code"] == "invalid_value"
    assert message in error["message"]
    assert error["message"].startswith(param)


def test_a_missing_parameter(served: Any, error_of: ErrorOf) -> None:
    error = error_of(served.client.post("/v1/chat/completions", json={"model": "tiny"}), 400)
    assert (error["param"], error["code"]) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"stream": True, "stream_options": {"X y": 1}}, "stream_options.X y"),
        ({"k" * 500: 1}, "k" * 80),
    ],
)
def test_an_unknown_parameter_is_refused(served: Any, error_of: ErrorOf, more: dict[str, Any], param: str) -> None:
    error = error_of(served.client.post("/v1/chat/completions", json={**CHAT, **more}), 400)
    assert (error["param"], error["code"]) == (param, "unknown_parameter")


def test_a_list_of_prompts_names_the_one_that_is_wrong(served: Any, error_of: ErrorOf) -> None:
    error = error_of(served.client.post("/v1/completions", json={"model": "tiny", "prompt": ["x", ""]}), 400)
    assert error["param"] == "prompt[1]"
    assert "at least 1 character" in error["message"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"top_logprobs": 2}, "top_logprobs go with logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "give one of them"),
        ({"temperature": 1e-9}, "temperature: 1e-09 is too small"),
    ],
)
def test_values_that_contradict_each_other(served: Any, error_of: ErrorOf, more: dict[str, Any], message: str) -> None:
    told = error_of(served.client.post("/v1/chat/completions", json={**CHAT, **more}), 400)["message"]
    assert message in told and "Value error" not in told


@pytest.mark.parametrize(
    "more", [{"frequency_penalty": 1}, {"logit_bias": {"3": 5.0}}, {"response_format": {"type": "json_object"}}]
)
def test_an_unsupported_parameter_is_refused_by_name(served: Any, error_of: ErrorOf, more: dict[str, Any]) -> None:
    error = error_of(served.client.post("/v1/chat/completions", json={**CHAT, **more}), 400)
    assert error["code"] == "unsupported_parameter"
    assert error["param"] == next(iter(more))
    assert "not supported" in error["message"]


def test_an_unknown_model(served: Any, error_of: ErrorOf) -> None:
    for response in (
        served.client.post("/v1/chat/completions", json={**CHAT, "model": "gpt-9"}),
        served.client.post("/v1/completions", json={"model": "gpt-9", "prompt": "x"}),
        served.client.get("/v1/models/gpt-9"),
    ):
        error = error_of(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "'tiny'" in error["message"]


@pytest.mark.parametrize(("method", "url", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405)])
def test_wrong_addresses_and_methods(served: Any, error_of: ErrorOf, method: str, url: str, status: int) -> None:
    assert error_of(served.client.request(method, url), status)["type"].endswith("_error")


@pytest.mark.parametrize(("url", "prompt"), [("/v1/chat/completions", None), ("/v1/completions", "word " * 60)])
def test_a_context_that_is_too_long(served: Any, error_of: ErrorOf, url: str, prompt: str | None) -> None:
    body = {**CHAT, "max_tokens": 500} if prompt is None else {"model": "tiny", "prompt": prompt}
    error = error_of(served.client.post(url, json=body), 400)
    assert error["code"] == "context_length_exceeded"
    assert "context of 200" in error["message"]


def test_oversize_bodies(serve: Any, error_of: ErrorOf) -> None:
    with serve(max_body_bytes=1000) as served:
        long = {**CHAT, "messages": [{"role": "user", "content": "x" * 2000}]}
        error = error_of(served.client.post("/v1/chat/completions", json=long), 413)
        assert error["code"] == "body_too_large"
        assert "1000 bytes" in error["message"]

        def chunked() -> Iterator[bytes]:
            yield json.dumps(long).encode()

        headers = {"content-type": "application/json"}
        error_of(served.client.post("/v1/chat/completions", content=chunked(), headers=headers), 413)
        fits = {**CHAT, "messages": [{"role": "user", "content": "x" * 10}]}
        assert served.client.post("/v1/chat/completions", json=fits).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_does_not_say_it_is_json(served: Any, error_of: ErrorOf, content_type: str) -> None:
    headers = {"content-type": content_type}
    response = served.client.post("/v1/chat/completions", content=json.dumps(CHAT), headers=headers)
    assert "Content-Type: application/json" in error_of(response, 415)["message"]


class TestKey:
    @pytest.mark.parametrize(
        "headers",
        [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}, {"authorization": "Basic secret"}],
    )
    @pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions", "/v1/models"])
    def test_without_the_right_key_nothing_is_answered(
        self, serve: Any, error_of: ErrorOf, headers: dict[str, str], url: str
    ) -> None:
        with serve(api_key="secret") as served:
            method = "GET" if url.endswith("models") else "POST"
            response = served.client.request(method, url, headers=headers)
            error = error_of(response, 401)
            assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
            assert "secret" not in response.text
            assert response.headers["www-authenticate"] == "Bearer"

    def test_with_it_everything_is(self, serve: Any) -> None:
        with serve(api_key="sécret") as served:
            headers = {"authorization": "Bearer sécret".encode()}
            assert served.client.get("/v1/models", headers=headers).status_code == 200

    def test_health_and_counts_need_none(self, serve: Any) -> None:
        with serve(api_key="secret") as served:
            for url in ("/health", "/metrics", "/openapi.json"):
                assert served.client.get(url).status_code == 200
            assert "secret" not in repr(served.context.settings)


def test_a_fault_inside_says_nothing_of_the_inside(serve: Any, error_of: ErrorOf) -> None:
    def broken(request: Any) -> Any:
        raise RuntimeError("private matters")

    with serve(broken) as served:
        response = served.chat()
        assert error_of(response, 500)["code"] == "engine_fault"
        assert "private" not in response.text


def test_queue_limit(serve: Any, error_of: ErrorOf) -> None:
    with serve(max_queue=4) as served:
        served.context.answering.in_progress = 3
        assert served.chat(n=1).status_code == 200
        response = served.chat(n=2)
        error = error_of(response, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        assert int(response.headers["retry-after"]) >= 1
        assert error_of(served.chat(n=5), 400)["message"].startswith("5 answers in one request")


def test_a_stopping_server_takes_nothing_new(serve: Any, error_of: ErrorOf) -> None:
    with serve() as served:
        served.context.answering.draining = True
        assert error_of(served.chat(), 503)["code"] == "stopping"
        assert served.client.get("/health").status_code == 503
        assert served.client.get("/health").json()["status"] == "draining"


def test_a_request_that_takes_too_long(serve: Any, error_of: ErrorOf, events_of: Any) -> None:
    with serve(delay_s=0.05, timeout_s=1.5) as served:  # a stream begins in time on a busy machine, and takes 5 s
        assert error_of(served.chat(max_tokens=100), 504)["code"] == "timeout"
        events = events_of(served.chat(max_tokens=100, stream=True))
        assert events[-1]["error"]["code"] == "timeout"
        assert served.context.answering.in_progress == 0
