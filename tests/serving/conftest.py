"""A server on an engine that says what a test tells it to, and clients for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.protocols import ServingEngine
from rlkit.serving.app import build_app, serving_context
from rlkit.serving.context import ServingContext
from rlkit.testing.fake_serving import Answer, FakeServingEngine
from rlkit.types import CompletionRequest
from rlkit.types.server_settings import ServerSettings

MODEL = "tiny"
CONTEXT = 200
TEMPLATE_WITH_TOOLS = """\
{%- if tools -%}{{- 'tools:' -}}{%- for tool in tools -%}{{- tool.function.name + ';' -}}{%- endfor -%}{%- endif -%}
{%- for message in messages -%}
{{- message.role + ':' + message.content -}}
{%- for call in message.tool_calls or [] -%}{{- '(' + call.function.name + call.function.arguments|tojson + ')' -}}
{%- endfor -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}
"""


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token a byte, and a chat template that shows tools."""
    made = make_tokenizer("byte", context_length=CONTEXT)
    made.chat_template = TEMPLATE_WITH_TOOLS
    return made


@pytest.fixture
def says(tokenizer: Any) -> Callable[[str], Answer]:
    """Function: an engine's `answer` that says a text, byte by byte, and ends."""

    def answer_with(text: str) -> Answer:
        def answer(request: CompletionRequest) -> Sequence[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        return answer

    return answer_with


@dataclass
class Served:
    """A running application, its client, and what is behind it."""

    client: TestClient
    context: ServingContext
    engine: Any

    def chat(self, content: str = "hi", **more: Any) -> Any:
        return self.client.post("/v1/chat/completions", json=chat_body(content, **more))

    def complete(self, prompt: Any = "hi", **more: Any) -> Any:
        return self.client.post("/v1/completions", json={"model": MODEL, "prompt": prompt, **more})


def chat_body(content: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


@pytest.fixture(scope="session")
def events_of() -> Callable[[Any], list[Any]]:
    """Function: the events of a stream, the closing mark as it is."""

    def read(response: Any) -> list[Any]:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def error_of() -> Callable[[Any, int], dict[str, Any]]:
    """Function: the error in a response, which must have this status and OpenAI's shape."""

    def read(response: Any, status: int) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        error: dict[str, Any] = body["error"]
        return error

    return read


def settings(**more: Any) -> ServerSettings:
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "model_name": MODEL,
        "max_queue": 64,
        "max_body_bytes": 100_000,
        "max_context": CONTEXT,
        "default_max_tokens": 170,
        "timeout_s": 20.0,
        "drain_timeout_s": 5.0,
    }
    return ServerSettings(**{**usual, **more})


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., ServerSettings]:
    """Function: settings, those given instead of the usual ones."""
    return settings


@dataclass
class Serve:
    """Starts applications, each on an engine of its own."""

    tokenizer: Any
    folder: Path

    @contextmanager
    def __call__(
        self, answer: Answer | None = None, *, engine: ServingEngine | None = None, delay_s: float = 0.0, **more: Any
    ) -> Iterator[Served]:
        if engine is None:
            usual = {} if answer is None else {"answer": answer}
            engine = FakeServingEngine(self.tokenizer, context_length=CONTEXT, delay_s=delay_s, **usual)
        context = serving_context(
            settings(**more), engine, self.tokenizer, vocabulary=len(self.tokenizer), folder=self.folder
        )
        with TestClient(build_app(context), raise_server_exceptions=False) as client:
            yield Served(client, context, engine)


@pytest.fixture
def serve(tokenizer: Any, tmp_path: Path) -> Serve:
    return Serve(tokenizer, tmp_path)
