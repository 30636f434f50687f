from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

EventsOf = Callable[[Any], list[Any]]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def joined(events: list[Any], index: int = 0) -> str:
    choices = [choice for event in events[:-1] for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_an_answer_has_the_shape_of_the_api(serve: Any, says: Any) -> None:
    with serve(says("hello")) as served:
        response = served.chat("hi")
        body = response.json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage", "policy_version"}
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "logprobs": None, "finish_reason": "stop"}
    ]
    prompt = len("user:hi\nassistant:")
    assert body["usage"] == {"prompt_tokens": prompt, "completion_tokens": 6, "total_tokens": prompt + 6}
    assert response.headers["x-rlkit-policy-version"] == "0"


def test_the_conversation_reaches_the_engine_as_the_template_renders_it(serve: Any, tokenizer: Any) -> None:
    seen: list[str] = []

    def answer(request: Any) -> list[int]:
        seen.append(tokenizer.decode(request.prompt_ids))
        return [tokenizer.eos_token_id]

    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "+1"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "2"},
    ]
    with serve(answer) as served:
        served.client.post("/v1/chat/completions", json={"model": "tiny", "messages": messages}).raise_for_status()
    assert seen == ['system:be brief\nuser:1+1\nassistant:(add{"a": 1})\ntool:2\nassistant:']


def test_pieces_of_a_stream_are_the_whole_answer(serve: Any, says: Any, events_of: EventsOf) -> None:
    with serve(says("grüße 😀 end")) as served:
        events = events_of(served.chat(stream=True))
    assert events[-1] == "[DONE]"
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert joined(events) == "grüße 😀 end"
    reasons = [choice["finish_reason"] for event in events[:-1] for choice in event["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
    assert {event["policy_version"] for event in events[:-1]} == {0}
    assert all("usage" not in event for event in events[:-1])


def test_usage_of_a_stream_comes_last_and_on_request(serve: Any, says: Any, events_of: EventsOf) -> None:
    with serve(says("abc")) as served:
        events = events_of(served.chat(stream=True, stream_options={"include_usage": True}))
    *others, last, done = events
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert all(event["usage"] is None for event in others)


def test_n_answers_differ_and_a_seed_repeats_them(serve: Any) -> None:
    with serve() as served:
        first, second = (served.chat("abcdefgh", n=3, seed=4, max_tokens=8).json() for _ in range(2))
        unseeded = [served.chat("abcdefgh", max_tokens=8).json() for _ in range(3)]
    contents = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]
    assert len(set(contents)) == 3
    assert contents == [choice["message"]["content"] for choice in second["choices"]]
    assert len({body["choices"][0]["message"]["content"] for body in unseeded}) == 3


def test_every_choice_of_a_stream_is_whole(serve: Any, events_of: EventsOf) -> None:
    with serve() as served:
        whole = served.chat("abcdefgh", n=3, seed=4, max_tokens=8).json()
        events = events_of(served.chat("abcdefgh", n=3, seed=4, max_tokens=8, stream=True))
    for index in range(3):
        assert joined(events, index) == whole["choices"][index]["message"]["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_answers_and_never_show(serve: Any, says: Any, events_of: EventsOf, stream: bool) -> None:
    with serve(says("one STOP two")) as served:
        response = served.chat(stop=["STOP"], stream=stream)
        if stream:
            events = events_of(response)
            assert joined(events) == "one "
            assert not any("S" in json.dumps(event["choices"][0]["delta"]) for event in events[:-1])
            return
        choice = response.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one ", "stop")


def test_length_is_the_other_reason(serve: Any, says: Any) -> None:
    with serve(says("a long answer")) as served:
        for name in ("max_tokens", "max_completion_tokens"):
            choice = served.chat(**{name: 6}).json()["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == ("a long", "length")


def test_without_a_limit_an_answer_is_as_long_as_the_default_and_the_context_allow(serve: Any) -> None:
    with serve(default_max_tokens=20) as served:
        assert served.chat().json()["usage"]["completion_tokens"] == 20
    with serve(default_max_tokens=5000) as served:
        assert served.chat().json()["usage"]["total_tokens"] == 200


class TestLogProbs:
    def test_each_token_of_the_text_has_one(self, serve: Any, says: Any) -> None:
        with serve(says("hé")) as served:
            content = served.chat(logprobs=True).json()["choices"][0]["logprobs"]["content"]
        assert [(entry["logprob"], entry["bytes"]) for entry in content] == [
            (-0.25, [104]),
            (-0.25, None),
            (-0.25, None),
        ]
        assert all(entry["top_logprobs"] == [] for entry in content)

    def test_alternatives_on_request(self, serve: Any, says: Any) -> None:
        with serve(says("hi")) as served:
            content = served.chat(logprobs=True, top_logprobs=3).json()["choices"][0]["logprobs"]["content"]
        assert [[top["token"] for top in entry["top_logprobs"]] for entry in content] == [
            ["h", "i", "j"],
            ["i", "j", "k"],
        ]

    def test_a_stream_has_the_same(self, serve: Any, says: Any, events_of: EventsOf) -> None:
        with serve(says("one STOP two")) as served:
            more = {"logprobs": True, "top_logprobs": 1, "stop": "STOP"}
            whole = served.chat(**more).json()["choices"][0]["logprobs"]["content"]
            events = events_of(served.chat(stream=True, **more))
        streamed = [
            entry for event in events[:-1] for entry in (event["choices"][0]["logprobs"] or {"content": []})["content"]
        ]
        assert streamed == whole
        assert "".join(entry["token"] for entry in whole) == "one "


class TestTokenIds:
    def test_every_sampled_token_comes_back_with_its_log_prob(self, serve: Any, says: Any, tokenizer: Any) -> None:
        with serve(says("ok")) as served:
            body = served.chat("hi", return_token_ids=True, logprobs=True).json()
        prompt = tokenizer.encode("user:hi\nassistant:", add_special_tokens=False)
        answer = [*tokenizer.encode("ok", add_special_tokens=False), tokenizer.eos_token_id]
        assert body["prompt_token_ids"] == prompt
        assert body["choices"][0]["token_ids"] == answer
        assert [entry["token_id"] for entry in body["choices"][0]["logprobs"]["content"]] == answer

    def test_in_streams_too(self, serve: Any, says: Any, events_of: EventsOf, tokenizer: Any) -> None:
        with serve(says("a😀")) as served:
            events = events_of(served.chat(stream=True, return_token_ids=True))
        ids = [token for event in events[:-1] for token in event["choices"][0].get("token_ids", [])]
        assert ids == [*tokenizer.encode("a😀", add_special_tokens=False), tokenizer.eos_token_id]
        assert events[0]["prompt_token_ids"]


class TestTools:
    def test_calls_are_taken_out_of_the_text(self, serve: Any, says: Any) -> None:
        with serve(says(f"I add.\n{CALL}")) as served:
            choice = served.chat(tools=TOOLS).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] == "I add."
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
        assert call["type"] == "function" and call["id"].startswith("call_")
        assert "index" not in call

    def test_a_call_alone_has_no_content(self, serve: Any, says: Any) -> None:
        with serve(says(CALL + CALL)) as served:
            message = served.chat(tools=TOOLS).json()["choices"][0]["message"]
        assert message["content"] is None
        assert len({call["id"] for call in message["tool_calls"]}) == 2

    def test_a_stream_has_them_numbered_and_none_of_their_text(
        self, serve: Any, says: Any, events_of: EventsOf
    ) -> None:
        with serve(says(f"I add.\n{CALL}\n{CALL}")) as served:
            events = events_of(served.chat(tools=TOOLS, stream=True))
        calls = [call for event in events[:-1] for call in event["choices"][0]["delta"].get("tool_calls", [])]
        assert [call["index"] for call in calls] == [0, 1]
        assert joined(events) == "I add."
        assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"

    def test_the_template_shows_the_tools_unless_they_are_hidden(self, serve: Any, says: Any) -> None:
        with serve(says("x")) as served:
            plain, shown, hidden = (
                served.chat(**more).json()["usage"]["prompt_tokens"]
                for more in ({}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"})
            )
        assert shown == plain + len("tools:add;")
        assert hidden == plain

    @pytest.mark.parametrize("more", [{}, {"tools": TOOLS, "tool_choice": "none"}])
    def test_without_tools_a_call_is_text(self, serve: Any, says: Any, more: dict[str, Any]) -> None:
        with serve(says(CALL)) as served:
            choice = served.chat(**more).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (CALL, "stop")

    def test_a_cut_call_is_text_and_the_reason_is_length(self, serve: Any, says: Any) -> None:
        with serve(says(CALL)) as served:
            choice = served.chat(tools=TOOLS, max_tokens=20).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (CALL[:20], "length")

    def test_a_whole_call_in_a_cut_answer_comes_with_the_reason_length(self, serve: Any, says: Any) -> None:
        with serve(says(f"{CALL} and more")) as served:
            choice = served.chat(tools=TOOLS, max_tokens=len(CALL) + 4).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("and", "length")
        assert len(choice["message"]["tool_calls"]) == 1


def test_a_stop_string_that_the_engine_does_not_see_ends_the_answer_too(serve: Any, tokenizer: Any) -> None:
    first, second = tokenizer.encode("ST", add_special_tokens=False)

    def answer(request: Any) -> list[int]:
        return [first, tokenizer.pad_token_id, second, *[first] * 100]

    with serve(answer) as served:
        body = served.chat(stop="ST", max_tokens=50).json()
        assert (body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]) == ("", "stop")
        assert body["usage"]["completion_tokens"] == 3
