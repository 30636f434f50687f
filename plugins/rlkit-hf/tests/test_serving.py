"""Requests that come and go while others run; the contract suite has the rest."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rlkit_hf.engine import HFEngine
from transformers import AutoModelForCausalLM

from rlkit.errors import ModelError
from rlkit.models.safetensors_io import stream_tensors
from rlkit.types import CompletionChunk, CompletionRequest, PromptBatch, SamplingParams

EngineOn = Callable[..., HFEngine]

SAMPLING = SamplingParams(max_tokens=12, seed=7)
KINDS = (
    SAMPLING,
    replace(SAMPLING, temperature=0.0, repetition_penalty=1.3),
    replace(SAMPLING, temperature=0.6, top_k=4, seed=1),
    replace(SAMPLING, top_p=0.7, max_tokens=5),
    replace(SAMPLING, min_p=0.1, stop=("7", "ab")),
    replace(SAMPLING, temperature=1.4, stop_token_ids=(9, 12)),
)


def requests_for(prompts: PromptBatch, kinds: Sequence[SamplingParams] = (SAMPLING,)) -> list[CompletionRequest]:
    return [
        CompletionRequest(f"{number}", token_ids, kinds[number % len(kinds)], number % 3, prompt.row_id)
        for number, (prompt, token_ids) in enumerate(zip(prompts.prompts, prompts.token_ids, strict=True))
    ]


def finish(engine: HFEngine) -> dict[str, list[CompletionChunk]]:
    chunks: dict[str, list[CompletionChunk]] = {}
    while engine.has_work:
        for chunk in engine.step():
            chunks.setdefault(chunk.request_id, []).append(chunk)
    return chunks


def tokens_of(chunks: Sequence[CompletionChunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


def alone(engine: HFEngine, request: CompletionRequest) -> list[CompletionChunk]:
    engine.submit(request)
    return finish(engine)[request.request_id]


@pytest.mark.parametrize("options", [{}, {"max_rows": 3}, {"max_batch_tokens": 150}, {"max_prefill_tokens": 8}])
def test_settings_side_by_side_do_not_disturb_one_another(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch, options: dict[str, int]
) -> None:
    requests = requests_for(prompts, KINDS)
    single = engine_on(model_folder)
    engine = engine_on(model_folder, **options)
    for request in requests:
        engine.submit(request)
    together = finish(engine)
    for request in requests:
        mine, expected = together[request.request_id], alone(single, request)
        assert tokens_of(mine) == tokens_of(expected)
        assert [chunk.finish_reason for chunk in mine] == [chunk.finish_reason for chunk in expected]
        assert torch.allclose(
            torch.tensor([chunk.log_probs for chunk in mine]),
            torch.tensor([chunk.log_probs for chunk in expected]),
            atol=1e-5,
        )
        for chunk in mine:
            assert [len(found) for found in chunk.top_log_probs] == [request.top_log_probs] * bool(
                request.top_log_probs
            )


def test_the_samples_of_one_request_share_the_prompt_and_answer_as_alone(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    requests = [
        CompletionRequest(str(sample), prompts.token_ids[2], SAMPLING, sample % 3, row_id=sample) for sample in range(8)
    ]
    expected = {request.request_id: tokens_of(alone(engine, request)) for request in requests}
    entered: list[int] = []
    enter = engine._scheduler._forward.enter

    def watched(token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        entered.append(len(rows))
        return enter(token_ids, rows, force=force)

    engine._scheduler._forward.enter = watched  # type: ignore[method-assign]
    for request in requests:
        engine.submit(request)
    answers = finish(engine)
    assert {request_id: tokens_of(chunks) for request_id, chunks in answers.items()} == expected
    assert len({tuple(tokens) for tokens in expected.values()}) > 4
    assert entered == [8]


def test_memory_stays_within_the_budget_and_answers_are_unchanged(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    sampling = SamplingParams(max_tokens=60, seed=3, temperature=0.5)
    whole = engine_on(model_folder).generate(prompts, replace(sampling, samples=4))
    engine = engine_on(model_folder, max_batch_tokens=400)
    allocated: list[int] = []
    step = engine._scheduler.step

    def watched() -> object:
        rows = step()
        allocated.append(engine._scheduler.allocated_tokens)
        return rows

    engine._scheduler.step = watched  # type: ignore[method-assign, assignment]
    small = engine.generate(prompts, replace(sampling, samples=4))
    assert max(allocated) <= 400
    assert engine._scheduler.num_preemptions > 0
    assert [row.tolist() for row in small.response_ids.rows()] == [row.tolist() for row in whole.response_ids.rows()]
    assert engine._scheduler.allocated_tokens == 0


def test_new_weights_between_steps_keep_requests_going_and_chunks_name_them(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    request = replace(requests_for(prompts)[2], sampling=replace(SAMPLING, stop_token_ids=(), max_tokens=8))
    before = tokens_of(alone(engine, request))
    engine.submit(request)
    first = [chunk for _ in range(3) for chunk in engine.step()]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight.flip(0))
    engine.update_weights(model.state_dict().items(), version=5)
    rest = finish(engine)[request.request_id]
    assert tokens_of(first) == before[:3]
    assert [chunk.policy_version for chunk in [*first, *rest]] == [0] * 3 + [5] * len(rest)
    assert tokens_of(rest) != before[3:]
    assert rest[-1].finish_reason is not None


def test_releasing_the_cache_pauses_requests_without_changing_them(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    requests = requests_for(prompts)
    expected = {request.request_id: tokens_of(alone(engine, request)) for request in requests}
    for request in requests:
        engine.submit(request)
    begun = {chunk.request_id: [chunk] for chunk in engine.step()}
    engine.release(["kv_cache"])
    assert engine._scheduler.allocated_tokens == 0
    rest = finish(engine)
    for request_id, tokens in expected.items():
        assert tokens_of([*begun[request_id], *rest.get(request_id, [])]) == tokens


def test_one_id_names_one_live_request(engine_on: EngineOn, model_folder: Path, prompts: PromptBatch) -> None:
    engine = engine_on(model_folder)
    request = requests_for(prompts)[0]
    engine.submit(request)
    with pytest.raises(ModelError, match="request '0' is still being answered"):
        engine.submit(request)
    finish(engine)
    engine.submit(request)
    assert finish(engine)


def test_generate_waits_for_requests_to_be_finished(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    engine.submit(requests_for(prompts)[0])
    with pytest.raises(ModelError, match="is serving requests"):
        engine.generate(prompts, SAMPLING)
    engine.abort(["0"])
    assert len(engine.generate(prompts, SAMPLING)) == len(prompts)


def test_a_fault_in_a_step_loses_what_is_live_and_nothing_else(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    requests = requests_for(prompts)
    expected = tokens_of(alone(engine, requests[1]))
    engine.submit(requests[0])
    engine.update_weights([(name, tensor * float("nan")) for name, tensor in stream_tensors(model_folder)], 5)
    with pytest.raises(ModelError, match=r"non-finite logits \(weights of version 5\)"):
        engine.step()
    assert not engine.has_work
    engine.update_weights(stream_tensors(model_folder), 6)
    assert tokens_of(alone(engine, requests[1])) == expected
