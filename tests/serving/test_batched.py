from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.models.registry import find_family
from rlkit.models.tokenizer import load_tokenizer
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import build_plugin
from rlkit.rollout.engine_model import EngineModel
from rlkit.serving.batched import BatchedServing
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.testing.simulated_replicas import Faults, RowEngine
from rlkit.testing.tiny_model import tiny_model
from rlkit.types import CompletionRequest, Prompt, PromptBatch, SamplingParams

SAMPLING = SamplingParams(max_tokens=6, seed=3)


def request(name: str, sampling: SamplingParams = SAMPLING, **more: Any) -> CompletionRequest:
    return CompletionRequest(name, more.pop("prompt_ids", (5, 6, 7)), sampling, **more)


@pytest.fixture
def engine(tokenizer: Any) -> FakeServingEngine:
    return FakeServingEngine(tokenizer)


def test_requests_with_the_same_settings_are_one_batch(engine: FakeServingEngine) -> None:
    serving = BatchedServing(engine)
    other = replace(SAMPLING, temperature=0.0)
    for item in (request("a"), request("b", other), request("c", row_id=4)):
        serving.submit(item)
    assert [chunk.request_id for chunk in serving.step()] == ["a", "c"]
    assert serving.has_work
    assert [chunk.request_id for chunk in serving.step()] == ["b"]
    assert not serving.has_work
    assert engine.calls == ["generate", "generate"]
    assert serving.step() == []


def test_a_seeded_request_is_answered_alike_whoever_asks_beside_it() -> None:
    serving = BatchedServing(RowEngine(Faults()))
    for name in ("a", "b", "c"):
        serving.submit(request(name))
    steps = [serving.step() for _ in range(3)]
    assert [[chunk.request_id for chunk in step] for step in steps] == [["a"], ["b"], ["c"]]
    assert len({chunk.token_ids for step in steps for chunk in step}) == 1
    assert not serving.has_work


def test_greedy_requests_are_one_batch_whatever_their_rows(engine: FakeServingEngine) -> None:
    serving = BatchedServing(engine)
    for name in ("a", "b"):
        serving.submit(request(name, replace(SAMPLING, temperature=0.0)))
    assert [chunk.request_id for chunk in serving.step()] == ["a", "b"]


def test_an_aborted_request_is_not_answered(engine: FakeServingEngine) -> None:
    serving = BatchedServing(engine)
    serving.submit(request("a"))
    serving.submit(request("b"))
    serving.abort(["a", "unknown"])
    assert [chunk.request_id for chunk in serving.step()] == ["b"]


@pytest.mark.parametrize("wrong", [request("a", top_log_probs=2), request("a", prompt_ids=())])
def test_what_generate_cannot_do_is_refused(engine: FakeServingEngine, wrong: CompletionRequest) -> None:
    with pytest.raises(ModelError):
        BatchedServing(engine).submit(wrong)


def test_weights_and_closing_go_to_the_engine(engine: FakeServingEngine) -> None:
    serving = BatchedServing(engine)
    serving.update_weights([], 4)
    serving.submit(request("a"))
    assert serving.step()[0].policy_version == 4
    serving.close()
    assert engine.calls == ["update_weights", "generate", "close"]


def test_answers_of_a_real_engine_are_those_of_generate() -> None:
    folder = tiny_model()
    model = EngineModel(folder, find_family(folder), load_tokenizer(folder), "float32", "cpu", False, 0)
    engine = build_plugin(PluginKind.ROLLOUT_ENGINE, "hf", {}, where="options", model=model)
    ids = tuple(tuple(model.tokenizer.encode(text, add_special_tokens=False)) for text in ("1+2=", "7"))
    prompts = PromptBatch(tuple(Prompt(row_id=row + 5) for row in range(2)), ids)
    rollouts = engine.generate(prompts, SAMPLING)
    serving = BatchedServing(engine)
    for row, prompt_ids in enumerate(ids):
        serving.submit(request(str(row), prompt_ids=prompt_ids, row_id=row + 5))
    chunks = serving.step()
    assert [list(chunk.token_ids) for chunk in chunks] == [row.tolist() for row in rollouts.response_ids.rows()]
    assert [chunk.finish_reason for chunk in chunks] == list(rollouts.finish_reasons)
    assert rollouts.rollout_log_probs is not None
    assert [list(chunk.log_probs) for chunk in chunks] == [row.tolist() for row in rollouts.rollout_log_probs.rows()]
    serving.close()
