"""The fake keeps the serving contract (tests/testing/contracts/test_serving.py); here is what it adds for tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlkit.errors import ModelError
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.testing.fake_serving import FakeServingEngine, repeat_prompt
from rlkit.types import CompletionRequest, SamplingParams

GREEDY = SamplingParams(max_tokens=4, temperature=0.0)


@pytest.fixture
def engine() -> FakeServingEngine:
    return FakeServingEngine(make_tokenizer("byte", context_length=64))


def request(name: str = "a", sampling: SamplingParams = GREEDY, **more: int) -> CompletionRequest:
    return CompletionRequest(name, (7, 8, 9), sampling, **more)


def test_a_greedy_answer_is_the_prompt_again(engine: FakeServingEngine) -> None:
    engine.submit(request())
    tokens = []
    while engine.has_work:
        (chunk,) = engine.step()
        tokens += chunk.token_ids
    assert (tokens, chunk.finish_reason) == ([7, 8, 9, 7], "length")


def test_seed_and_row_change_a_sampled_answer() -> None:
    sampled = replace(GREEDY, temperature=1.0)
    answers = [
        repeat_prompt(request(sampling=sampled.with_seed(seed), row_id=row)) for seed in (0, 1) for row in (0, 1)
    ]
    assert len({tuple(answer) for answer in answers}) > 1
    assert answers[0] == repeat_prompt(request(sampling=sampled))


def test_only_so_many_run_at_once(engine: FakeServingEngine) -> None:
    engine.max_live = 1
    engine.submit(request("a"))
    engine.submit(request("b"))
    assert [chunk.request_id for _ in range(5) for chunk in engine.step()] == ["a"] * 4 + ["b"]


def test_it_can_be_slow(engine: FakeServingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("rlkit.testing.fake_serving.time.sleep", waited.append)
    engine.delay_s = 0.5
    engine.step()
    assert waited == [0.5]


def test_a_request_beyond_the_context_is_refused(engine: FakeServingEngine) -> None:
    with pytest.raises(ModelError, match="do not fit the context of 128"):
        engine.submit(request(sampling=replace(GREEDY, max_tokens=126)))


def test_it_remembers_what_was_asked_of_it(engine: FakeServingEngine) -> None:
    engine.submit(request())
    engine.abort(["a"])
    engine.update_weights([], 2)
    engine.close()
    assert engine.calls == ["submit", "abort", "update_weights", "close"]
    assert engine.version == 2
