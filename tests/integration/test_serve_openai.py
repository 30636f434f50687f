"""The `openai` client against `rlkit serve` on a small real model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.slow

QUESTION: Any = [{"role": "user", "content": "1+2="}]
KEY = "test-key"
COMPLETED = 'rlkit_http_requests_total{endpoint="/v1/completions",status="200"}'
PATIENCE_S = 120.0
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FUZZING = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)

SCRIPTED = """
from rlkit.testing.fake_serving import FakeServingEngine

CALL = '<tool_call>\\n{"name": "add", "arguments": {"a": 1, "b": 2}}\\n</tool_call>'


def engine(model):
    def answer(request):
        prompt = model.tokenizer.decode(request.prompt_ids)
        text = "It is 3." if "tool:" in prompt else "Let me see." + CALL if "tool add" in prompt else "No tools."
        return model.tokenizer.encode(text, add_special_tokens=False)

    return FakeServingEngine(model.tokenizer, answer=answer, context_length=512)
"""


@pytest.fixture(scope="module")
def hf_server(start_server: Callable[..., Any], byte_model: Path) -> Any:
    weights = ("--set", f"serve.weights_folders={byte_model}", "--set", "serve.weights_key_env=SERVE_KEY")
    return start_server(byte_model, "--model", "first", "--api-key-env", "SERVE_KEY", *weights, SERVE_KEY=KEY)


@pytest.fixture(scope="module")
def vllm_server(vllm_on_cpu: None, start_server: Callable[..., Any], byte_model: Path) -> Any:
    settings = ("--engine", "vllm", "--api-key-env", "SERVE_KEY")
    return start_server(byte_model, "--model", "first", *settings, SERVE_KEY=KEY)


@pytest.fixture(scope="module", params=["hf", "vllm"])
def server(request: pytest.FixtureRequest) -> Any:
    """rlkit's own server, and vLLM's behind rlkit's front: both are held to the same."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["first"]
    assert client.models.retrieve("first").id == "first"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("second")


class TestChat:
    def test_an_answer(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="first", messages=QUESTION, max_tokens=8, temperature=0)
        (choice,) = answer.choices
        assert choice.message.role == "assistant"
        assert choice.finish_reason in ("stop", "length")
        assert answer.usage is not None
        assert 1 <= answer.usage.completion_tokens <= 8
        assert answer.model_extra is not None and answer.model_extra["policy_version"] == 0

    def test_greedy_answers_and_seeds_repeat(self, client: openai.OpenAI) -> None:
        for more in ({"temperature": 0}, {"seed": 5, "n": 3}):
            texts = [
                [
                    choice.message.content
                    for choice in client.chat.completions.create(
                        model="first", messages=QUESTION, max_completion_tokens=10, **more
                    ).choices
                ]
                for _ in range(2)
            ]
            assert texts[0] == texts[1]
        assert len(set(texts[0])) == 3

    def test_a_stream_is_the_same_answer(self, client: openai.OpenAI) -> None:
        more: Any = {"model": "first", "messages": QUESTION, "max_tokens": 40, "seed": 3}
        whole = client.chat.completions.create(**more).choices[0].message.content
        stream = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **more)
        events = list(stream)
        assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == whole
        assert events[-1].usage is not None and events[-1].usage.completion_tokens <= 40

    def test_log_probs_of_each_token(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(
            model="first", messages=QUESTION, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
        )
        log_probs = answer.choices[0].logprobs
        assert log_probs is not None and log_probs.content
        for entry in log_probs.content:
            assert len(entry.top_logprobs) == 3
            values = [top.logprob for top in entry.top_logprobs]
            assert values == sorted(values, reverse=True)
            assert entry.logprob == pytest.approx(values[0], abs=1e-5)

    def test_stop_strings_and_sampling_settings(self, client: openai.OpenAI) -> None:
        more: Any = {"model": "first", "messages": QUESTION, "max_tokens": 30, "seed": 1}
        free = client.chat.completions.create(**more, top_p=0.9).choices[0].message.content or ""
        stop = free[4:6]
        cut = client.chat.completions.create(**more, top_p=0.9, stop=[stop]).choices[0]
        assert cut.finish_reason == "stop"
        assert cut.message.content == free[: free.index(stop)]
        settings: Any = {"top_k": 3, "min_p": 0.01, "repetition_penalty": 1.2, "return_token_ids": True}
        answer = client.chat.completions.create(**more, extra_body=settings).choices[0]
        assert answer.model_extra is not None and len(answer.model_extra["token_ids"]) <= 30

    def test_tools(self, start_server: Callable[..., Any], byte_model: Path) -> None:
        (byte_model / "scripted.py").write_text(SCRIPTED)
        scripted = start_server(byte_model, "--model", "first", "--engine", "scripted.py:engine")
        with openai.OpenAI(base_url=f"{scripted.url}/v1", api_key="none", max_retries=0) as client:
            asked = client.chat.completions.create(model="first", messages=QUESTION, tools=TOOLS).choices[0]
            assert asked.finish_reason == "tool_calls"
            assert asked.message.content == "Let me see."
            assert asked.message.tool_calls is not None
            (call,) = asked.message.tool_calls
            assert call.type == "function"
            assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1, "b": 2})
            result = {"role": "tool", "tool_call_id": call.id, "content": "3"}
            told: Any = [*QUESTION, asked.message, result]
            final = client.chat.completions.create(model="first", messages=told, tools=TOOLS).choices[0]
            assert (final.finish_reason, final.message.content) == ("stop", "It is 3.")
            with client.chat.completions.stream(model="first", messages=QUESTION, tools=TOOLS) as stream:
                streamed = stream.get_final_completion().choices[0]
            assert streamed.finish_reason == "tool_calls"
            assert streamed.message.tool_calls is not None
            assert streamed.message.tool_calls[0].function.arguments == call.function.arguments


class TestCompletions:
    def test_text_and_token_ids(self, client: openai.OpenAI) -> None:
        text = client.completions.create(model="first", prompt="1+2=", max_tokens=8, temperature=0)
        extra: Any = {"return_token_ids": True}
        ids = client.completions.create(
            model="first", prompt="1+2=", max_tokens=8, temperature=0, extra_body=extra
        ).choices[0]
        assert ids.model_extra is not None
        again = client.completions.create(
            model="first", prompt=ids.model_extra["prompt_token_ids"], max_tokens=8, temperature=0
        )
        assert again.choices[0].text == text.choices[0].text == ids.text

    def test_log_probs_and_several_prompts(self, client: openai.OpenAI) -> None:
        answer = client.completions.create(model="first", prompt=["a", "b"], n=2, max_tokens=4, logprobs=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        for choice in answer.choices:
            assert choice.logprobs is not None and choice.logprobs.tokens is not None
            assert choice.logprobs.top_logprobs is not None
            assert len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs)

    def test_a_stream(self, client: openai.OpenAI) -> None:
        more: Any = {"model": "first", "prompt": "abc", "max_tokens": 30, "seed": 2}
        whole = client.completions.create(**more).choices[0].text
        assert "".join(event.choices[0].text for event in client.completions.create(stream=True, **more)) == whole


class TestErrors:
    @pytest.mark.parametrize(
        ("more", "error"),
        [
            ({"max_tokens": -1}, openai.BadRequestError),
            ({"model": "gpt-9"}, openai.NotFoundError),
            ({"temperature": "hot"}, openai.BadRequestError),
            ({"max_tokens": 100_000}, openai.BadRequestError),
            ({"messages": [{"role": "user", "content": 5}]}, openai.BadRequestError),
            ({"top_p": 2}, openai.BadRequestError),
        ],
    )
    def test_the_client_raises_its_own(
        self, client: openai.OpenAI, more: dict[str, Any], error: type[openai.APIStatusError]
    ) -> None:
        with pytest.raises(error) as raised:
            client.chat.completions.create(**{"model": "first", "messages": QUESTION, **more})
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["message"] and raised.value.body["type"]

    @pytest.mark.parametrize("more", [{"frequency_penalty": 1.0}, {"extra_body": {"nonsense": 1}}])
    def test_what_is_not_understood_is_refused(self, hf_server: Any, more: dict[str, Any]) -> None:
        client = openai.OpenAI(base_url=f"{hf_server.url}/v1", api_key=KEY, max_retries=0)
        with client, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="first", messages=QUESTION, **more)

    def test_a_wrong_key(self, server: Any) -> None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                client.chat.completions.create(model="first", messages=QUESTION)
            assert KEY not in str(raised.value)

    def test_malformed_and_oversize_bodies(self, server: Any) -> None:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        url = f"{server.url}/v1/chat/completions"
        assert (
            httpx.post(url, content=b"{", headers=headers, timeout=PATIENCE_S).json()["error"]["code"] == "invalid_json"
        )
        response = httpx.post(url, content=b"x" * 20_000_000, headers=headers, timeout=PATIENCE_S)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_many_clients_lose_nothing(server: Any) -> None:
    clients, each = 256, 4

    async def one(number: int) -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=300) as client:
            answers = []
            for turn in range(each):
                more: Any = {"model": "first", "max_tokens": 4 + number % 5, "temperature": 0, "stop": "\0"}
                text = f"{number} {turn}"
                if (number + turn) % 2:
                    answer = await client.completions.create(prompt=text, **more)
                    answers.append(answer.choices[0].text)
                else:
                    stream = await client.completions.create(prompt=text, stream=True, **more)
                    answers.append("".join([event.choices[0].text async for event in stream]))
            return answers

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(one(number) for number in range(clients)))

    before = server.metric(COMPLETED)
    answers = asyncio.run(main())
    assert [len(given) for given in answers] == [each] * clients
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        for number, turn in ((0, 0), (100, 1), (255, 3)):  # alone they are what they were among a thousand
            alone = client.completions.create(
                model="first", prompt=f"{number} {turn}", max_tokens=4 + number % 5, temperature=0, stop="\0"
            )
            assert alone.choices[0].text == answers[number][turn]
    # An answer is over, and counted, a moment after its client has it.
    until(lambda: server.metric("rlkit_answers_in_progress") == 0)
    until(lambda: server.metric(COMPLETED) - before >= clients * each + 3)
    assert server.metric(COMPLETED) - before == clients * each + 3
    assert server.metric('rlkit_answers_total{end="unfinished"}') == 0


def make_likelier(body: Any) -> None:
    """What a schema cannot say, or hardly any body would get beyond it: the model's name, messages with content."""
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str) and len(body["model"]) % 3:
        body["model"] = "first"
    if isinstance(body.get("messages"), list) and len(body["messages"]) % 3:
        for message in body["messages"]:
            if isinstance(message, dict) and message.get("role") in ("system", "developer", "user"):
                message.pop("tool_calls", None)
                message["content"] = message.get("content") or "x"
    if not body.get("stream") and len(body) % 3:
        body.pop("stream_options", None)


def test_no_body_that_the_schema_allows_or_nearly_allows_is_a_server_error(hf_server: Any) -> None:
    schema = schemathesis.openapi.from_url(f"{hf_server.url}/openapi.json")
    headers = {"Authorization": f"Bearer {KEY}"}
    statuses: Counter[int] = Counter()

    def check(case: Any) -> None:
        make_likelier(case.body)
        response = case.call(headers=headers, timeout=PATIENCE_S)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS, headers=headers)
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}, response.text

    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:
            fuzz = FUZZING(given(case=operation.as_strategy(generation_mode=mode))(check))
            with contextlib.suppress(Unsatisfiable):  # without a parameter nothing can be wrong
                fuzz()
    assert statuses[200] > 50 and statuses[400] > 50, statuses
    assert hf_server.is_ready()
