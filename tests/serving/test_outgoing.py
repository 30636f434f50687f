from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rlkit.serving.errors import APIError
from rlkit.serving.outgoing import Outgoing

Message = dict[str, Any]


def start(status: int, media_type: str) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type.encode())]}


def body(text: str, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def sent(*messages: Message, version: int | None = 7, error: APIError | None = None) -> list[Message]:
    """What goes out when an application sends `messages`, and is then given up with `error`."""
    out: list[Message] = []

    async def run() -> None:
        async def send(message: Message) -> None:
            out.append(message)

        outgoing = Outgoing(send, version)
        for message in messages:
            await outgoing(message)
        if error is not None:
            await outgoing.end(error)
            await outgoing(body("more that nobody reads"))

    asyncio.run(run())
    return out


def headers(message: Message) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in message["headers"]}


def test_an_answer_names_its_version() -> None:
    begin, end = sent(start(200, "application/json"), body('{"id": "x", ', more=True), body('"choices": [{"a": 1}]}'))
    assert json.loads(end["body"]) == {"policy_version": 7, "id": "x", "choices": [{"a": 1}]}
    assert headers(begin)["x-rlkit-policy-version"] == "7"
    assert int(headers(begin)["content-length"]) == len(end["body"])


@pytest.mark.parametrize("text", ["[1]", "{}", "null", "{"])
def test_what_is_no_object_stays_as_it_is(text: str) -> None:
    assert sent(start(200, "application/json"), body(text))[1]["body"] == text.encode()


def test_each_event_of_a_stream_names_it() -> None:
    out = sent(
        start(200, "text/event-stream; charset=utf-8"),
        body('data: {"text": "data: {\\"a"}\n\n', more=True),
        body(': still here\n\ndata: {"b": 1}\n\ndata: {"c": 2}\n\n', more=True),
        body('data: {"error": {"message": "no"}}\n\n', more=True),
        body("data: [DONE]\n\n"),
    )
    assert [message["body"].decode() for message in out[1:]] == [
        'data: {"policy_version":7,"text": "data: {\\"a"}\n\n',
        ': still here\n\ndata: {"policy_version":7,"b": 1}\n\ndata: {"policy_version":7,"c": 2}\n\n',
        'data: {"error": {"message": "no"}}\n\n',
        "data: [DONE]\n\n",
    ]


def test_other_bodies_pass_at_once() -> None:
    page = body("<html>", more=True)
    assert sent(start(200, "text/html"), page)[1] == page
    plain = (start(200, "application/json"), body('{"a": 1}', more=True))
    assert sent(*plain, version=None) == list(plain)


def test_errors_of_openai_s_shape_are_the_server_s_own() -> None:
    text = '{"error":{"message":"too hot","type":"BadRequestError","param":null,"code":400}}'
    begin, end = sent(start(400, "application/json"), body(text))
    assert (begin["status"], end["body"]) == (400, text.encode())
    assert "x-rlkit-policy-version" not in headers(begin)


@pytest.mark.parametrize(
    ("status", "media_type", "text", "code"),
    [
        (404, "application/json", '{"detail":"Not Found"}', "unknown_url"),
        (405, "application/json", '{"detail":"Method Not Allowed"}', "method_not_allowed"),
        (401, "application/json", '{"error":"Unauthorized"}', None),
        (500, "text/plain", "Internal Server Error", None),
    ],
)
def test_other_errors_get_it(status: int, media_type: str, text: str, code: str | None) -> None:
    begin, end = sent(start(status, media_type), body(text), version=None)
    error = json.loads(end["body"])["error"]
    assert (begin["status"], set(error), error["code"]) == (status, {"message", "type", "param", "code"}, code)
    assert headers(begin)["content-type"] == "application/json"
    assert int(headers(begin)["content-length"]) == len(end["body"])


def test_giving_up_before_anything_was_sent_raises_the_error() -> None:
    error = APIError(504, "too long")
    with pytest.raises(APIError, match="too long"):
        sent(error=error)
    with pytest.raises(APIError, match="too long"):
        sent(start(200, "application/json"), body("{", more=True), error=error)


def test_giving_up_a_stream_ends_it_with_the_error() -> None:
    out = sent(start(200, "text/event-stream"), body('data: {"a": 1}\n\n', more=True), error=APIError(504, "too long"))
    assert not out[-1]["more_body"]
    assert json.loads(out[-1]["body"].decode().removeprefix("data: "))["error"]["message"] == "too long"
