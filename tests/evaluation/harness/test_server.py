"""Tasks on a server: what is asked of it, what it cannot tell, and what a broken one is called."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance

from rlkit.errors import ConfigError, RolloutError
from rlkit.evaluation.harness.model import sampling_of
from rlkit.evaluation.harness.server import ServerLM


class Server(ThreadingHTTPServer):
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None, Any]]
    busy: int = 0  # requests still to be turned away

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "served"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if Handler.busy:
            Handler.busy -= 1
            self.send_error(429, "busy")
            return
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.path.endswith("/chat/completions"):
            self._reply({"choices": [{"message": {"content": body["messages"][-1]["content"] + " said"}}]})
        elif body["prompt"] == "bad":
            self.send_error(400, "no such prompt")
        else:
            self._reply({"choices": [{"text": body["prompt"] + " one. two"}]})

    def _reply(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    Handler.asked = []
    with Server(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", Handler.asked
        httpd.shutdown()
        thread.join()


def instance(kind: str, *arguments: Any) -> Any:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("task", 0, 1))


SETTINGS = {"until": ["."], "max_gen_toks": 5, "do_sample": False}


def test_answers_come_in_order_and_end_at_the_stop_string(server: tuple[str, list[Any]]) -> None:
    url, asked = server
    lm = ServerLM(url, api_key="secret")
    assert lm.model_name == "served"
    requests = [instance("generate_until", f"prompt {n}", SETTINGS) for n in range(40)]
    assert lm.generate_until(requests) == [f"prompt {n} one" for n in range(40)]
    path, key, body = asked[0]
    assert (path, key) == ("/v1/completions", "Bearer secret")
    assert (body["model"], body["max_tokens"], body["temperature"], body["stop"]) == ("served", 5, 0.0, ["."])


def test_repeats_of_one_prompt_have_seeds_of_their_own_and_sampling_settings_are_sent(
    server: tuple[str, list[Any]],
) -> None:
    url, asked = server
    settings = SETTINGS | {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.1}
    requests = [instance("generate_until", text, settings) for text in ("a", "a", "a", "b")]

    def seeds(seed: int) -> list[tuple[str, int]]:
        asked.clear()
        ServerLM(url, seed=seed).generate_until(requests)
        return sorted((body["prompt"], body["seed"]) for _, _, body in asked)

    first = seeds(0)
    assert len(set(first)) == 4
    assert {name: asked[0][2][name] for name in ("temperature", "top_p", "top_k", "min_p")} == {
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
    }
    assert seeds(0) == first, "a second run asks for the same answers"
    assert not set(seeds(1)) & set(first)
    ServerLM(url).generate_until([instance("generate_until", "c", SETTINGS)])
    assert not {"top_k", "min_p"} & set(asked[-1][2]), "servers that know OpenAI's settings alone refuse others"


def test_a_chat_goes_to_the_servers_own_template(server: tuple[str, list[Any]]) -> None:
    url, asked = server
    lm = ServerLM(f"{url}/v1/", model="mine")
    text = lm.apply_chat_template([{"role": "user", "content": "hello"}])
    assert lm.generate_until([instance("generate_until", text, SETTINGS)]) == ["hello said"]
    assert asked[0][2]["messages"] == [{"role": "user", "content": "hello"}]


def test_a_busy_server_is_asked_again(server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlkit.evaluation.harness.server.FIRST_WAIT_S", 0.001)
    lm = ServerLM(server[0])
    Handler.busy = 3
    assert lm.generate_until([instance("generate_until", "a", SETTINGS)]) == ["a one"]
    Handler.busy = 100
    with pytest.raises(RolloutError, match="answered 429"):
        lm.generate_until([instance("generate_until", "a", SETTINGS)])
    Handler.busy = 0


def test_what_a_server_cannot_tell_and_what_it_refuses_is_said(server: tuple[str, list[Any]]) -> None:
    lm = ServerLM(server[0])
    with pytest.raises(ConfigError, match=r"the task task compares likelihoods.*give --model instead of --server"):
        lm.loglikelihood([instance("loglikelihood", "a", "b")])
    with pytest.raises(ConfigError, match="measures likelihoods"):
        lm.loglikelihood_rolling([instance("loglikelihood_rolling", "a")])
    with pytest.raises(RolloutError, match="/v1/completions answered 400"):
        lm.generate_until([instance("generate_until", "bad", SETTINGS)])
    with pytest.raises(RolloutError, match=r"cannot be asked.*is `rlkit serve` running there\?"):
        ServerLM("http://127.0.0.1:9")


def test_settings_that_no_engine_has_are_refused() -> None:
    sampled = sampling_of({"until": ["a", ""], "do_sample": True, "temperature": 0.5, "max_gen_toks": 7}, seed=3)
    assert (sampled.temperature, sampled.max_tokens, sampled.stop, sampled.seed) == (0.5, 7, ("a",), 3)
    assert sampling_of({"until": "a"}, seed=0).max_tokens == 256
    with pytest.raises(
        ConfigError, match=r"generation_kwargs\.repetition_penalty = 1\.2, which rollout engines do not have"
    ):
        sampling_of({"until": [], "repetition_penalty": 1.2}, seed=0)
    with pytest.raises(ConfigError, match="num_beams = 4"):
        sampling_of({"until": [], "num_beams": 4}, seed=0)
