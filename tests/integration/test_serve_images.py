"""Images in requests to vLLM's own server."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlkit.testing.tiny_vision_model import write_tiny_vision_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

PATIENCE_S = 120.0


def picture(shade: int) -> bytes:
    image = pytest.importorskip("PIL.Image").new("RGB", (32, 32), (shade, 255 - shade, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def in_request(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("PIL")
    folder = write_tiny_vision_model(tmp_path_factory.mktemp("vision") / "model")
    return start_server(folder, "--model", ".", "--engine", "vllm")


@pytest.fixture
def image_host() -> Iterator[tuple[str, list[str]]]:
    """An address with a picture, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture(9))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    host = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{host.server_port}/secret.png", asked
    host.shutdown()
    host.server_close()


def ask(server: Any, url: str) -> httpx.Response:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "1+2="}]
    (model,) = httpx.get(f"{server.url}/v1/models", timeout=PATIENCE_S).json()["data"]
    body = {"model": model["id"], "messages": [{"role": "user", "content": content}]}
    sampling = {"max_tokens": 4, "temperature": 0, "logprobs": True, "ignore_eos": True}
    return httpx.post(f"{server.url}/v1/chat/completions", json={**body, **sampling}, timeout=PATIENCE_S)


def test_an_image_in_the_request_is_looked_at(server: Any) -> None:
    answers = [ask(server, in_request(picture(shade))) for shade in (0, 250)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    first, second = (
        [token["logprob"] for token in answer.json()["choices"][0]["logprobs"]["content"]] for answer in answers
    )
    assert first != second


def test_an_address_is_not_fetched(server: Any, image_host: tuple[str, list[str]]) -> None:
    address, asked = image_host
    answer = ask(server, address)
    assert answer.status_code == 400
    assert "127.0.0.1" in answer.json()["error"]["message"]
    assert asked == []


def test_a_file_of_the_server_is_not_read(server: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    answer = ask(server, f"file://{tmp_path}/secret.png")
    assert 400 <= answer.status_code < 500, answer.text
