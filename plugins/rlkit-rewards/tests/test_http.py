"""The HTTP reward against a real server, a well-behaved one and others."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rlkit_rewards.http import HTTP
from rlkit_rewards.remote_options import HTTPOptions

from rlkit.config.errors import validate_section
from rlkit.config.reward_sections import RewardSection
from rlkit.errors import ConfigError, RewardError, TransientRewardError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.rewards.scorer import build_scorer
from rlkit.testing import ContractCheck, ContractContext, contract_checks
from rlkit.types import Prompt, Reward, Sample

KEY = "sk-very-secret-0123456789"


def sample(response: str = "4", **extra: Any) -> Sample:
    prompt = Prompt(7, messages=({"role": "user", "content": "2+2="},), reference="4", data_source="sums", extra=extra)
    return Sample(prompt, response)


def judge(url: str, samples: Sequence[Sample], **options: Any) -> list[Reward]:
    async def ask() -> list[Reward]:
        reward = HTTP(HTTPOptions(url=url, **options))
        try:
            return await reward(samples)
        finally:
            await reward.aclose()

    return asyncio.run(ask())


def test_an_answer_is_posted_with_everything_about_it_and_comes_back_judged(server: Any, reply: Any) -> None:
    server.script = lambda path, body: reply({"score": 0.5, "parts": {"style": 0.25}, "note": "ignored"})
    assert judge(server.url + "/score?x=1", [sample(level=np.int64(3), many=np.arange(2))]) == [
        Reward(0.5, {"style": 0.25})
    ]
    assert server.bodies == [
        {
            "prompt": "2+2=",
            "messages": [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}],
            "response": "4",
            "reference": "4",
            "data_source": "sums",
            "extra": {"level": 3, "many": [0, 1]},
        }
    ]


def test_only_the_chosen_fields_are_sent(server: Any) -> None:
    judge(server.url, [sample()], send=("prompt", "response"))
    assert server.bodies == [{"prompt": "2+2=", "response": "4"}]


def test_verdicts_come_in_the_order_of_the_answers_over_few_connections(server: Any, reply: Any) -> None:
    server.script = lambda path, body: reply({"score": float(body["response"])}, seconds=0.01)

    async def ask() -> list[float]:
        reward = HTTP(HTTPOptions(url=server.url))
        scores: list[float] = []
        for start in range(0, 40, 4):
            scores += [r.score for r in await reward([sample(str(n)) for n in range(start, start + 4)])]
        await reward.aclose()
        return scores

    assert asyncio.run(ask()) == [float(n) for n in range(40)]
    assert len(server.connections) <= 4


def test_no_more_requests_than_allowed_are_in_progress(server: Any, reply: Any) -> None:
    together = threading.Barrier(3)

    def script(path: str, body: Any) -> Any:
        together.wait(60)  # three of them are allowed, so three have to come
        return reply({"score": 1.0}, seconds=0.02)

    server.script = script
    assert len(judge(server.url, [sample(str(n)) for n in range(12)], max_concurrency=3)) == 12
    assert server.most_at_once == 3


def test_answers_judged_at_the_same_time_share_requests(server: Any, reply: Any) -> None:
    server.script = lambda path, body: reply(
        {"results": [{"score": float(entry["response"])} for entry in body["samples"]]}
    )

    async def ask() -> list[Reward]:
        reward = HTTP(HTTPOptions(url=server.url, batch_size=4))
        verdicts = await asyncio.gather(*(reward([sample(str(n))]) for n in range(10)))
        await reward.aclose()
        return [verdict for (verdict,) in verdicts]

    assert [reward.score for reward in asyncio.run(ask())] == [float(n) for n in range(10)]
    assert sorted(len(body["samples"]) for body in server.bodies) == [2, 4, 4]


def test_a_bad_result_in_a_batch_fails_alone(server: Any, reply: Any) -> None:
    server.script = lambda path, body: reply({"results": [{"score": 1}, {"score": "high"}, {"error": "no idea"}]})
    first, second, third = judge(server.url, [sample("a"), sample("b"), sample("c")], batch_size=3)
    assert first == Reward(1.0)
    assert second.error == "http: 'score' is 'high', not a finite number"
    assert third.error == "http: the endpoint could not judge: no idea"


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ([], "the reply has 0 results for 2 samples"),
        ("two", "the reply to 2 samples is {'results': 'two'}, not an object with 'results'"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(server: Any, reply: Any, results: Any, told: str) -> None:
    server.script = lambda path, body: reply({"results": results})
    verdicts = judge(server.url, [sample("a"), sample("b")], batch_size=2)
    assert [told in str(verdict.error) for verdict in verdicts] == [True, True]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<html>hello\nthere", "sent no JSON: <html>hello there"),
        ("", r"sent no JSON: \(nothing\)"),
        ("[" * 100_000, "sent no JSON"),
        ("[1.0]", "the result is [1.0], not an object with 'score'"),
        ({"reward": 1.0}, "the result {'reward': 1.0} has no 'score'"),
        ({"score": None}, "'score' is None, not a finite number"),
        ({"score": True}, "'score' is True, not a finite number"),
        ('{"score": NaN}', "'score' is nan, not a finite number"),
        ('{"score": 1' + "0" * 400 + "}", "not a finite number"),
        ({"score": 1.0, "parts": [1]}, "'parts' is [1], not an object of numbers"),
        ({"score": 1.0, "parts": {"a": "b"}}, "part 'a' is 'b', not a finite number"),
        ({"error": "out\nof ideas"}, "the endpoint could not judge: out of ideas"),
    ],
)
def test_a_malformed_reply_is_refused_in_one_line(server: Any, reply: Any, body: Any, told: str) -> None:
    server.script = lambda path, _: reply(body)
    with pytest.raises(RewardError) as caught:
        judge(server.url, [sample()])
    assert told.replace("\\", "") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, TransientRewardError)


@pytest.mark.parametrize(("status", "header", "seconds"), [(429, "7", 7.0), (503, None, None), (500, "soon", None)])
def test_a_busy_or_broken_server_is_to_be_asked_again(
    server: Any, reply: Any, status: int, header: str | None, seconds: float | None
) -> None:
    server.script = lambda path, _: reply("slow\ndown", status, {"retry-after": header} if header else {})
    with pytest.raises(TransientRewardError, match=f"answered {status} .*: slow down$") as caught:
        judge(server.url, [sample()])
    assert caught.value.retry_after_s == seconds


def test_a_date_says_when_to_ask_again_too(server: Any, reply: Any) -> None:
    server.script = lambda path, _: reply("", 429, {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"})
    with pytest.raises(TransientRewardError) as caught:
        judge(server.url, [sample()])
    assert caught.value.retry_after_s == 300.0


def test_a_server_cannot_hold_training_up_for_days(server: Any, reply: Any) -> None:
    server.script = lambda path, _: reply("", 429, {"retry-after": "9" * 400})
    with pytest.raises(TransientRewardError) as caught:
        judge(server.url, [sample()])
    assert caught.value.retry_after_s == 300.0


def test_a_closed_connection_is_to_be_asked_again(server: Any, reply: Any) -> None:
    server.script = lambda path, _: reply(status=0)
    with pytest.raises(TransientRewardError, match=r"http: http://127.0.0.1:\d+ could not be asked"):
        judge(server.url, [sample()])


def test_a_server_that_is_not_there_is_to_be_asked_again() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(TransientRewardError, match="could not be asked"):
            judge(url, [sample()])


def test_a_server_that_hangs_is_given_up_after_the_time_of_a_request(server: Any, reply: Any) -> None:
    left = threading.Event()

    def script(path: str, body: Any) -> Any:
        left.wait(60)
        return reply({"score": 1.0})

    server.script = script
    with pytest.raises(TransientRewardError, match=r"gave no whole reply within 0\.2 s"):
        judge(server.url, [sample()], request_timeout_s=0.2)
    left.set()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_wrong_settings_stop_everything_and_name_the_variable_never_the_key(
    server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.script = lambda path, _: reply(f"bad key {KEY}", status)
    with pytest.raises(ConfigError, match=rf"answered {status} .*: bad key \(key\); check url and JUDGE_KEY") as caught:
        judge(server.url + "/v1?token=hidden", [sample(), sample("5")], api_key_env="JUDGE_KEY")
    assert KEY not in repr(caught.value)
    assert "hidden" not in str(caught.value)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("body", [{"error": f"no such key: {KEY}"}, {"score": f"{'x' * 50} {KEY}"}, [KEY]])
def test_a_key_that_the_server_repeats_is_in_no_message(
    server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.script = lambda path, _: reply(body)
    with pytest.raises(RewardError) as caught:
        judge(server.url, [sample()], api_key_env="JUDGE_KEY")
    assert KEY[:8] not in str(caught.value)


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\r\tx", f"{KEY} 2", f"{KEY}\u2026"])
def test_a_key_that_fits_no_header_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(ConfigError, match=r"api_key_env names JUDGE_KEY, which holds a line break, a space") as caught:
        HTTP(HTTPOptions(url="http://host", api_key_env="JUDGE_KEY"))
    assert KEY not in str(caught.value)


def test_a_redirect_is_not_followed_with_the_key(server: Any, reply: Any) -> None:
    server.script = lambda path, _: reply("", 307, {"location": "http://127.0.0.2/else?secret=1"})
    with pytest.raises(ConfigError, match=r"answered 307 .* points to http://127.0.0.2/else; give that address in url"):
        judge(server.url, [sample()])
    assert len(server.bodies) == 1


def test_other_refusals_concern_one_answer(server: Any, reply: Any) -> None:
    server.script = lambda path, body: reply("too long", 413) if body["response"] == "b" else reply({"score": 1.0})
    good, bad = judge(server.url, [sample("a"), sample("b")])
    assert good == Reward(1.0)
    assert str(bad.error).endswith("answered 413 Request Entity Too Large: too long")


def test_a_reply_without_end_is_cut_off(server: Any, reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlkit_rewards.http_endpoint.MAX_REPLY_BYTES", 1000)
    server.script = lambda path, _: reply("x" * 100_000)
    with pytest.raises(RewardError, match="sent more than 0 MiB, which is no verdict"):
        judge(server.url, [sample()])


def test_broken_unicode_reaches_the_server_as_a_question_mark(server: Any) -> None:
    judge(server.url, [sample("bad \ud800 surrogate")])
    assert server.bodies[0]["response"] == "bad ? surrogate"


def test_a_row_that_json_cannot_hold_is_told(server: Any) -> None:
    with pytest.raises(RewardError, match="cannot be sent this answer"):
        judge(server.url, [sample(level=float("nan"))])


def test_it_works_in_one_event_loop_after_another(server: Any) -> None:
    for options in ({}, {"batch_size": 1}):
        reward = HTTP(HTTPOptions(url=server.url, **options))
        for _ in range(2):
            assert asyncio.run(reward([sample()])) == [Reward(1.0)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "reward.options.http.url is required"),
        ({"url": "localhost:80"}, "reward.options.http.url = 'localhost:80' is no address"),
        ({"url": f"https://me:{KEY}@host/"}, "holds a user or a password"),
        ({"url": "http://host", "api_key_env": KEY}, "api_key_env is not the name of an environment variable"),
        ({"url": "http://host", "send": ["prompt"]}, "leaves out 'response'"),
    ],
)
def test_options_that_cannot_be_are_refused_without_showing_a_key(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=r"reward\.options\.http") as caught:
        validate_section(HTTPOptions, options, where="reward.options.http")
    assert told in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_key_that_is_not_set_is_told_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"reward.options.http.api_key_env names NO_SUCH_KEY, which is not set"):
        HTTP(HTTPOptions(url="http://host", api_key_env="NO_SUCH_KEY"))


def test_the_key_is_in_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    options = HTTPOptions(url="http://host", api_key_env="JUDGE_KEY")
    HTTP(options)
    assert KEY not in json.dumps(options.model_dump(mode="json"))


def test_the_scorer_asks_again_until_a_failing_server_has_recovered(server: Any, reply: Any) -> None:
    """As in a run: a busy server, a closed connection and an error pass; every answer gets its own score."""
    failures = {"1": [429], "3": [0, 503], "4": [500]}

    def script(path: str, body: Any) -> Any:
        left = failures.get(body["response"], [])
        return reply("", left.pop()) if left else reply({"score": float(body["response"]), "parts": {"seen": 1.0}})

    server.script = script
    section = RewardSection(functions=("http",), options={"http": {"url": server.url}}, retry_wait_s=0.01)
    with build_scorer(section) as scorer:
        rewards = scorer.score([sample(str(number)) for number in range(6)])
    assert rewards == [Reward(float(number), {"http": float(number), "http/seen": 1.0}) for number in range(6)]
    assert len(server.bodies) == 10


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (("", 500), "answered 500"),
        (("<html>", 200), "sent no JSON: <html>"),
        (("", 0), "could not be asked"),
        (("", 404), "check url and api_key_env"),
    ],
)
def test_the_scorer_ends_with_the_reason_when_a_server_stays_broken(
    server: Any, reply: Any, answer: tuple[str, int], told: str
) -> None:
    server.script = lambda *_: reply(*answer)
    section = RewardSection(functions=("http",), options={"http": {"url": server.url}}, retry_wait_s=0.01, retries=1)
    with build_scorer(section) as scorer, pytest.raises((RewardError, ConfigError)) as caught:
        scorer.score([sample("1"), sample("2")])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_request_that_may_take_longer_than_its_answer_is_refused() -> None:
    section = RewardSection(
        functions=("http",), options={"http": {"url": "http://host", "request_timeout_s": 30}}, timeout_s=30
    )
    with pytest.raises(ConfigError, match=r"reward\.timeout_s = 30 is no longer than the 30 s that 'http' may take"):
        build_scorer(section)


@pytest.mark.parametrize("check", contract_checks(PluginKind.REWARD_FUNCTION), ids=lambda check: check.name)
def test_contract(server: Any, reply: Any, check: ContractCheck, tmp_path: Path) -> None:
    server.script = lambda path, body: reply({"score": float(len(body["response"]) % 7)})
    plugin = load_plugin(PluginKind.REWARD_FUNCTION, "http")
    check(ContractContext(plugin=plugin, tmp_path=tmp_path, options={"url": server.url}))
