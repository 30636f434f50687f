from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlkit.serving.errors import APIError
from rlkit.serving.front import Front, answers_in
from rlkit.testing.tiny_model import write_tiny_model
from rlkit.types.server_settings import ServerSettings

KEY = {"authorization": "Bearer secret"}


class Engine:
    """An engine's own server: it repeats what it is asked, after as long as the request says."""

    def __init__(self) -> None:
        self.failure = ""
        self.weights: list[str] = []
        self.asked: list[str] = []
        self.left = threading.Event()
        routes = [
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/metrics", lambda request: PlainTextResponse("engine_tokens 5\n")),
            Route("/anything", self.anything, methods=["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"]),
            Route("/inside", lambda request: PlainTextResponse("inside")),
            Route("/openapi.json", lambda request: JSONResponse({"openapi": "3.1.0"})),
        ]
        self.app = Starlette(routes=routes)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if body.get("fail"):
            raise RuntimeError("it broke")
        if body.get("stream"):
            return StreamingResponse(self._events(body), media_type="text/event-stream")
        await self._work(request, body.get("seconds", 0))
        return JSONResponse({"choices": body["prompt"]})

    async def models(self, request: Request) -> Response:
        if self.failure:
            return JSONResponse({"detail": "no"}, 503)
        return JSONResponse({"object": "list", "data": [{"id": "mine", "owned_by": "engine"}]})

    async def anything(self, request: Request) -> Response:
        self.asked.append(request.method)
        return PlainTextResponse("anything")

    async def update_weights(self, named_tensors: Any, version: int) -> None:
        self.weights = [name for name, _ in named_tensors]

    async def _work(self, request: Request, seconds: float) -> None:
        """As vLLM does: the client's leaving ends it, not a cancelled task."""
        leaving = asyncio.ensure_future(request.receive())
        await asyncio.wait((leaving,), timeout=seconds)
        if leaving.done():
            self.left.set()
        leaving.cancel()

    async def _events(self, body: Any) -> Any:
        yield 'data: {"text": "a"}\n\n'
        await asyncio.sleep(body.get("seconds", 0))
        yield "data: [DONE]\n\n"


class Fronted:
    """A client of a front, and what is behind it."""

    def __init__(self, client: TestClient, front: Front, engine: Engine) -> None:
        self.client = client
        self.front = front
        self.engine = engine

    def ask(self, **more: Any) -> Any:
        return self.client.post("/v1/completions", json={"prompt": "hi", **more}, headers=KEY)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "first", seed=0)
    write_tiny_model(folder / "second", seed=1)
    return folder


@pytest.fixture
def fronted(models: Path) -> Callable[..., Any]:
    """Function: a running front."""

    @contextmanager
    def run(**changes: Any) -> Iterator[Fronted]:
        plain: dict[str, Any] = {
            "host": "127.0.0.1", "port": 0, "model_name": "mine", "max_queue": 4, "max_body_bytes": 1000, "max_context": 99,
            "default_max_tokens": 9, "timeout_s": 20.0, "drain_timeout_s": 5.0, "api_key": "secret", "weights_key": "other",
            "weights_folders": (models,),
        }  # fmt: skip
        engine = Engine()
        front = Front(engine, ServerSettings(**{**plain, **changes}), folder=models / "first")
        with TestClient(front, raise_server_exceptions=False) as client:
            yield Fronted(client, front, engine)

    return run


def error(response: Any, status: int) -> Any:
    assert response.status_code == status, response.text
    body = response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return body


def test_an_answer_passes_and_names_its_version(fronted: Any) -> None:
    with fronted() as served:
        answer = served.ask(prompt=["a", "b"])
        assert answer.json() == {"policy_version": 0, "choices": ["a", "b"]}
        assert answer.headers["x-rlkit-policy-version"] == "0"
        stream = served.ask(stream=True)
        assert stream.text == 'data: {"policy_version":0,"text": "a"}\n\ndata: [DONE]\n\n'


def test_everything_but_health_metrics_and_the_schema_needs_the_key(fronted: Any) -> None:
    with fronted() as served:
        for path in ("/v1/completions", "/v1/models", "/v1/models/mine", "/inside", "/nowhere", "//health", "/health/"):
            method = "POST" if path == "/v1/completions" else "GET"
            assert error(served.client.request(method, path), 401)["code"] == "invalid_api_key"
        for path in ("/health", "/metrics", "/openapi.json"):
            assert served.client.get(path).status_code == 200
        assert served.client.get("/inside", headers=KEY).text == "inside"


def test_bodies_are_looked_at_before_the_engine_sees_them(fronted: Any) -> None:
    with fronted() as served:
        send: Any = {"headers": {**KEY, "content-type": "application/json"}}
        post = served.client.post
        assert error(post("/v1/completions", content=b'{"prompt": ', **send), 400)["code"] == "invalid_json"
        assert error(post("/v1/completions", content=b"[" * 900, **send), 400)["code"] == "invalid_json"
        assert error(post("/v1/completions", content=b"x" * 1001, **send), 413)["code"] == "body_too_large"
        assert error(post("/v1/completions", data={"prompt": "x"}, headers=KEY), 415)


def test_one_model_is_found_in_the_engine_s_list(fronted: Any) -> None:
    with fronted() as served:
        assert served.client.get("/v1/models/mine", headers=KEY).json() == {"id": "mine", "owned_by": "engine"}
        assert error(served.client.get("/v1/models/yours", headers=KEY), 404)["code"] == "model_not_found"


def test_the_engine_s_metrics_and_those_of_the_front(fronted: Any) -> None:
    with fronted() as served:
        served.ask()
        served.client.get("/any/address/that/somebody/thinks/of", headers=KEY)
        lines = served.client.get("/metrics").text.splitlines()
        assert {"engine_tokens 5", "rlkit_policy_version 0", "rlkit_answers_in_progress 0"} <= set(lines)
        assert 'rlkit_http_requests_total{endpoint="/v1/completions",status="200"} 1' in lines
        assert 'rlkit_http_requests_total{endpoint="other",status="404"} 1' in lines


def test_health_says_when_nothing_is_answered(fronted: Any) -> None:
    with fronted() as served:
        assert served.client.get("/health").json() == {"status": "ok", "policy_version": 0}
        served.engine.failure = "the engine is gone"
        response = served.client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "failed")
        assert error(served.ask(), 503)["message"] == "the engine is gone"
        served.front.gate.draining = True
        assert served.client.get("/health").json()["status"] == "draining"


def test_new_weights_are_checked_and_named(fronted: Any, models: Path) -> None:
    with fronted() as served:
        body = {"path": str(models / "second"), "policy_version": 40}
        assert error(served.client.post("/v1/weights", json=body, headers=KEY), 401)
        response = served.client.post("/v1/weights", json=body, headers={"authorization": "Bearer other"})
        assert response.json()["policy_version"] == 40
        assert "model.embed_tokens.weight" in served.engine.weights
        assert served.ask().json()["policy_version"] == 40
        outside = served.client.post("/v1/weights", json={"path": "/etc"}, headers={"authorization": "Bearer other"})
        assert error(outside, 403)
    with fronted(weights_folders=()) as served:
        assert error(served.client.post("/v1/weights", json=body, headers=KEY), 404)


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_told_so_and_stopped(fronted: Any, stream: bool) -> None:
    with fronted(timeout_s=0.2) as served:
        answer = served.ask(seconds=30, stream=stream)
        if stream:
            assert json.loads(answer.text.rstrip().rpartition("data: ")[2])["error"]["code"] == "timeout"
        else:
            assert error(answer, 504)["code"] == "timeout"
            assert served.engine.left.wait(60)
        assert served.front.gate.in_progress == 0


def test_giving_up_ends_what_runs(fronted: Any) -> None:
    with fronted() as served:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(served.ask(seconds=30)))
        asking.start()
        deadline = time.monotonic() + 60
        while not served.front.gate.in_progress and time.monotonic() < deadline:
            time.sleep(0.01)
        served.client.portal.call(served.front.gate.give_up)
        asking.join(60)
        assert error(answers[0], 503)["code"] == "stopping"


def test_a_server_that_fails_is_a_500_without_its_secrets(fronted: Any) -> None:
    with fronted() as served:
        assert "it broke" not in error(served.ask(fail=True), 500)["message"]
        assert served.ask().status_code == 200


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 3}, 3),
        ({"prompt": "x", "n": 3.0}, 3),
        ({"prompt": "x", "n": "3"}, 3),
        ({"prompt": "x", "n": "many"}, 1),
        ({"prompt": "x", "n": -1}, 1),
        ({"prompt": "x", "n": None}, 1),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2, 3]], "n": 2}, 4),
        ({"prompt": []}, 1),
        ({"messages": [{"role": "user"}, {"role": "user"}]}, 1),
        ({"messages": [[{"role": "user"}], [{"role": "user"}]]}, 2),
        ([1, 2], 1),
    ],
)
def test_answers_are_counted_before_they_are_made(asked: Any, answers: int) -> None:
    assert answers_in(json.dumps(asked).encode()) == answers


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(APIError) as refused:
        answers_in(body)
    assert refused.value.status == 400


def test_an_engine_that_cannot_list_its_models_passes_its_status_on(fronted: Any) -> None:
    with fronted() as served:
        served.engine.failure = "gone"
        assert error(served.client.get("/v1/models/mine", headers=KEY), 503)["message"] == "Service Unavailable"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_other_methods_are_refused_before_their_bodies_are_read(fronted: Any, method: str) -> None:
    with fronted() as served:
        refused = served.client.request(method, "/anything", content=b"x" * 1001, headers=KEY)
        assert error(refused, 405)["code"] == "method_not_allowed"
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS, POST"
        assert served.engine.asked == []
        assert served.client.options("/anything", headers=KEY).text == "anything"
