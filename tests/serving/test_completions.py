from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

EventsOf = Callable[[Any], list[Any]]


def test_an_answer_has_the_shape_of_the_api(serve: Any, says: Any) -> None:
    with serve(says("hello")) as served:
        response = served.complete("hi")
        body = response.json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage", "policy_version"}
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
    assert response.headers["x-rlkit-policy-version"] == "0"


def test_sixteen_tokens_unless_more_are_asked_for(serve: Any) -> None:
    with serve() as served:
        assert served.complete().json()["usage"]["completion_tokens"] == 16
        assert served.complete(max_tokens=20).json()["usage"]["completion_tokens"] == 20


def test_token_ids_go_in_as_they_are_and_come_back(serve: Any, tokenizer: Any) -> None:
    prompt = [tokenizer.eos_token_id, 70, 71]
    with serve() as served:
        body = served.complete(prompt, temperature=0, max_tokens=2, return_token_ids=True, logprobs=0).json()
    choice = body["choices"][0]
    assert choice["prompt_token_ids"] == prompt
    assert choice["token_ids"] == [tokenizer.eos_token_id]
    assert len(choice["logprobs"]["token_logprobs"]) == 1
    assert body["usage"]["prompt_tokens"] == 3


def test_token_ids_beyond_the_vocabulary_are_refused(serve: Any, error_of: Any, tokenizer: Any) -> None:
    with serve() as served:
        assert "vocabulary" in error_of(served.complete([len(tokenizer)]), 400)["message"]
        assert error_of(served.complete([[1], [len(tokenizer)]]), 400)["param"] == "prompt"


def test_several_prompts_with_several_answers_are_numbered_in_order(serve: Any, tokenizer: Any) -> None:
    with serve() as served:
        body = served.complete(["ab", "cd"], n=2, max_tokens=4, seed=1, return_token_ids=True).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in body["choices"]]
    assert all(set(text) <= set("ab") for text in texts[:2])
    assert all(set(text) <= set("cd") for text in texts[2:])
    assert [choice["prompt_token_ids"] for choice in body["choices"]] == [
        tokenizer.encode(text, add_special_tokens=False) for text in ("ab", "ab", "cd", "cd")
    ]
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 16, "total_tokens": 20}


def test_log_probs_in_this_endpoint_s_own_shape(serve: Any, says: Any) -> None:
    with serve(says("hi you")) as served:
        plain, with_top = (
            served.complete(logprobs=count, max_tokens=4).json()["choices"][0]["logprobs"] for count in (0, 2)
        )
    assert plain["tokens"] == ["h", "i", " ", "y"]
    assert plain["token_logprobs"] == [-0.25] * 4
    assert plain["text_offset"] == [0, 1, 2, 3]
    assert plain["top_logprobs"] is None
    assert with_top["top_logprobs"][0] == {"h": -0.25, "i": -1.25}


@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"return_token_ids": True}, {"stop": ["T"]}])
def test_a_stream_is_the_whole_answer_in_pieces(
    serve: Any, says: Any, events_of: EventsOf, more: dict[str, Any]
) -> None:
    with serve(says("über 😀 STOP")) as served:
        whole = served.complete(["a", "b"], max_tokens=30, **more).json()["choices"]
        events = events_of(served.complete(["a", "b"], max_tokens=30, stream=True, **more))
    assert events[-1] == "[DONE]"
    for index, choice in enumerate(whole):
        pieces = [piece for event in events[:-1] for piece in event["choices"] if piece["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        assert [piece["finish_reason"] for piece in pieces][-1] == choice["finish_reason"]
        if "token_ids" in choice:
            assert [token for piece in pieces for token in piece["token_ids"]] == choice["token_ids"]
        if choice["logprobs"]:
            tokens = [token for piece in pieces for token in piece["logprobs"]["tokens"]]
            offsets = [offset for piece in pieces for offset in piece["logprobs"]["text_offset"]]
            assert (tokens, offsets) == (choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"])


def test_usage_of_a_stream_comes_last_and_on_request(serve: Any, says: Any, events_of: EventsOf) -> None:
    with serve(says("abc")) as served:
        events = events_of(served.complete(stream=True, stream_options={"include_usage": True}))
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert all(event["usage"] is None for event in events[:-2])


def test_a_stop_string_that_the_engine_does_not_see_ends_the_answer_too(serve: Any, tokenizer: Any) -> None:
    def answer(request: Any) -> list[int]:
        first, second = tokenizer.encode("ST", add_special_tokens=False)
        hidden = tokenizer.pad_token_id
        return [first, hidden, second, *[first] * 100]

    with serve(answer) as served:
        choice = served.complete(stop="ST", max_tokens=50).json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("", "stop")
        assert served.client.get("/metrics").text.count('rlkit_answers_total{end="stop"} 1') == 1
        assert served.context.answering.in_progress == 0


def test_settings_reach_the_engine(serve: Any, tokenizer: Any) -> None:
    seen: list[Any] = []

    def answer(request: Any) -> list[int]:
        seen.append(request.sampling)
        return [tokenizer.eos_token_id]

    settings = {"top_p": 0.5, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.5, "temperature": 0.3}
    with serve(answer) as served:
        served.complete(seed=-3, stop=["x"], stop_token_ids=[9], max_tokens=5, **settings).raise_for_status()
        served.complete(top_k=-1, temperature=0, seed=8).raise_for_status()
    first, second = seen
    assert {name: getattr(first, name) for name in settings} == settings
    assert (first.seed, first.stop, first.stop_token_ids, first.max_tokens) == (2**64 - 3, ("x",), (9,), 5)
    assert (second.top_k, second.top_p, second.seed, second.samples) == (0, 1.0, 0, 1)
