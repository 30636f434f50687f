from __future__ import annotations

from typing import Any


def test_the_served_model_is_listed(serve: Any) -> None:
    with serve() as served:
        listed = served.client.get("/v1/models").json()
        (model,) = listed["data"]
        assert listed["object"] == "list"
        assert (model["id"], model["object"], model["max_model_len"]) == ("tiny", "model", 200)
        assert served.client.get("/v1/models/tiny").json() == model


def test_a_name_with_slashes_can_be_asked_for(serve: Any) -> None:
    with serve(model_name="Qwen/Qwen3-0.6B") as served:
        assert served.client.get("/v1/models/Qwen/Qwen3-0.6B").json()["id"] == "Qwen/Qwen3-0.6B"


def test_health_names_the_weights(serve: Any) -> None:
    with serve() as served:
        assert served.client.get("/health").json() == {"status": "ok", "policy_version": 0}
        served.context.engine.failure = "no weights"
        response = served.client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "failed")


def test_metrics_count_what_has_happened(serve: Any, says: Any) -> None:
    with serve(says("abc")) as served:
        served.chat("hi", n=2)
        served.chat("hi", max_tokens=1)
        served.chat("hi", max_tokens=-1)
        response = served.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'rlkit_http_requests_total{endpoint="/v1/chat/completions",status="200"} 2',
        'rlkit_http_requests_total{endpoint="/v1/chat/completions",status="400"} 1',
        'rlkit_answers_total{end="stop"} 2',
        'rlkit_answers_total{end="length"} 1',
        "rlkit_answers_in_progress 0",
        f"rlkit_prompt_tokens_total {3 * len('user:hi' + chr(10) + 'assistant:')}",
        "rlkit_generated_tokens_total 9",
        "rlkit_request_seconds_count 2",
        "rlkit_first_token_seconds_count 2",
    ):
        assert line in response.text.splitlines()
