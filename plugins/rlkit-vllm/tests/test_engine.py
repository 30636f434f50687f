"""What the contract does not say: vLLM's own limits, its weights, and that it is interchangeable with the hf engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.actor import FSDPActor
from rlkit_hf.engine import HFEngine
from rlkit_hf.options import HFEngineOptions
from rlkit_vllm.engine import VLLMEngine
from rlkit_vllm.options import VLLMEngineOptions
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from rlkit.errors import ModelError
from rlkit.models.registry import find_family
from rlkit.models.safetensors_io import stream_tensors
from rlkit.models.tokenizer import load_tokenizer
from rlkit.protocols.actor import ModelRole, OptimizerSettings
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import CompletionRequest, Prompt, PromptBatch, Rollouts, SamplingParams

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

TOLERANCE = 1e-4
"""Largest difference of a token's log-probs between two correct implementations in float32, nats."""

SAMPLINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.6},
    "nucleus": {"top_p": 0.8},
    "nucleus, hot": {"top_p": 0.8, "temperature": 1.5},
    "top-k, cold": {"top_k": 3, "temperature": 0.7},
    "min-p, hot": {"min_p": 0.2, "temperature": 1.3},
    "repetition penalty": {"repetition_penalty": 1.4, "temperature": 0.9},
    "greedy": {"temperature": 0.0},
    "greedy with a penalty": {"temperature": 0.0, "repetition_penalty": 1.4},
}


@pytest.fixture
def actor(model_folder: Path) -> FSDPActor:
    return FSDPActor(
        ModelRole(
            path=model_folder,
            family=find_family(model_folder),
            dtype="float32",
            device="cpu",
            micro_batch_tokens=512,
            gradient_checkpointing=False,
            trust_remote_code=False,
            seed=0,
            optimizer=OptimizerSettings(
                lr=1e-3,
                weight_decay=0.0,
                betas=(0.9, 0.99),
                eps=1e-8,
                max_grad_norm=1.0,
                schedule="constant",
                warmup_steps=0,
                total_steps=1,
                min_lr_ratio=0.0,
            ),
        )
    )


@pytest.fixture
def hf_engine(engine_model: Callable[..., EngineModel]) -> Iterator[HFEngine]:
    engine = HFEngine(HFEngineOptions(), model=engine_model())
    yield engine
    engine.close()


def answers(rollouts: Rollouts) -> list[list[int]]:
    return [row.tolist() for row in rollouts.response_ids.rows()]


def greedy_answers(folder: Path, prompts: PromptBatch, max_tokens: int) -> list[list[int]]:
    """By transformers' own `generate`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[list[int]] = []
    for token_ids in prompts.token_ids:
        ids = torch.tensor([token_ids])
        given = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens)
        row = given[0, len(token_ids) :].tolist()
        end = model.generation_config.eos_token_id
        found.append(row[: row.index(end) + 1] if end in row else row)
    return found


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_log_probs_are_those_that_the_actor_computes(
    engine: VLLMEngine, actor: FSDPActor, prompts: PromptBatch, sampling: str
) -> None:
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=12, samples=3, seed=3, **SAMPLINGS[sampling]))
    temperature = SAMPLINGS[sampling].get("temperature", 1.0) or 1.0
    recomputed = actor.compute_log_probs(rollouts, temperature=temperature).log_probs
    assert rollouts.rollout_log_probs is not None
    assert rollouts.rollout_log_probs.values.dtype == torch.float32
    assert float((recomputed.values - rollouts.rollout_log_probs.values).abs().max()) < TOLERANCE
    assert float(rollouts.rollout_log_probs.values.min()) < -0.5


@pytest.mark.parametrize("sampling", [name for name in SAMPLINGS if name.startswith("greedy")])
@pytest.mark.parametrize("stop", [(), ("1",), ("a", "= ")], ids=str)
def test_greedy_answers_are_those_of_the_hf_engine(
    engine: VLLMEngine, hf_engine: HFEngine, prompts: PromptBatch, sampling: str, stop: tuple[str, ...]
) -> None:
    asked = SamplingParams(max_tokens=16, stop=stop, **SAMPLINGS[sampling])
    ours, theirs = engine.generate(prompts, asked), hf_engine.generate(prompts, asked)
    assert answers(ours) == answers(theirs)
    assert ours.finish_reasons == theirs.finish_reasons
    assert ours.group_ids.tolist() == theirs.group_ids.tolist()
    assert ours.rollout_log_probs is not None and theirs.rollout_log_probs is not None
    assert torch.allclose(ours.rollout_log_probs.values, theirs.rollout_log_probs.values, atol=TOLERANCE)


def test_after_an_update_greedy_answers_are_those_of_the_other_model(
    engine: VLLMEngine, other_folder: Path, prompts: PromptBatch, model_folder: Path
) -> None:
    sampling = SamplingParams(max_tokens=12, temperature=0.0)
    assert answers(engine.generate(prompts, sampling)) == greedy_answers(model_folder, prompts, 12)
    engine.update_weights(stream_tensors(other_folder), 7)
    rollouts = engine.generate(prompts, sampling)
    assert rollouts.policy_version == 7
    assert answers(rollouts) == greedy_answers(other_folder, prompts, 12) != greedy_answers(model_folder, prompts, 12)


def test_no_cached_prefix_outlives_its_weights(engine: VLLMEngine, other_folder: Path) -> None:
    prompts = PromptBatch((Prompt(row_id=1),), ((7, 8, 9) * 100,))
    sampling = SamplingParams(max_tokens=8, temperature=0.0)
    engine.generate(prompts, sampling)
    engine.update_weights(stream_tensors(other_folder), 1)
    assert answers(engine.generate(prompts, sampling)) == greedy_answers(other_folder, prompts, 8)


def test_tokens_are_drawn_with_the_models_probabilities(
    engine: VLLMEngine, prompts: PromptBatch, model_folder: Path
) -> None:
    one = prompts.select([2])
    drawn = engine.generate(one, SamplingParams(max_tokens=1, samples=6000, seed=11)).response_ids.values
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor(one.token_ids)).logits[0, -1].double(), -1) * 6000
    counts = torch.bincount(drawn, minlength=len(expected)).double()
    likely = expected >= 5
    statistic = float(((counts - expected) ** 2 / expected)[likely].sum())
    assert statistic < int(likely.sum()) + 5 * (2 * int(likely.sum())) ** 0.5  # chi-square, about five sigma


def test_asking_for_more_samples_keeps_the_first_ones(engine: VLLMEngine, prompts: PromptBatch) -> None:
    few = answers(engine.generate(prompts, SamplingParams(max_tokens=8, samples=2, seed=3)))
    many = answers(engine.generate(prompts, SamplingParams(max_tokens=8, samples=5, seed=3)))
    assert few == [many[5 * group + sample] for group in range(12) for sample in (0, 1)]


def test_a_prompt_given_twice_is_answered_anew(engine: VLLMEngine, prompts: PromptBatch) -> None:
    twice = answers(engine.generate(prompts.select([2, 2]), SamplingParams(max_tokens=12, samples=2, seed=3)))
    once = answers(engine.generate(prompts.select([2]), SamplingParams(max_tokens=12, samples=4, seed=3)))
    assert twice == once
    assert len({tuple(answer) for answer in twice}) > 1


def test_more_answers_than_fit_at_once_are_all_there(engine: VLLMEngine, prompts: PromptBatch) -> None:
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=6, samples=40, seed=3))
    assert len(rollouts) == 480
    assert int(rollouts.response_ids.lengths.min()) >= 1
    few = engine.generate(prompts, SamplingParams(max_tokens=6, samples=2, seed=3))
    assert [answers(rollouts)[40 * group + sample] for group in range(12) for sample in (0, 1)] == answers(few)


def test_weights_come_after_resume_and_before_generate(
    engine: VLLMEngine, prompts: PromptBatch, model_folder: Path
) -> None:
    sampling = SamplingParams(max_tokens=8)
    before = answers(engine.generate(prompts, sampling))
    engine.release(["weights", "kv_cache"])
    with pytest.raises(ModelError, match=r"resume\(\['weights'\]\) before update_weights"):
        engine.update_weights(stream_tensors(model_folder), 1)
    engine.resume(["weights"])
    with pytest.raises(ModelError, match="no whole set of weights: call resume and update_weights before generate"):
        engine.generate(prompts, sampling)
    engine.update_weights(stream_tensors(model_folder), 1)
    with pytest.raises(ModelError, match=r"released its KV cache; call resume\(\['kv_cache'\]\)"):
        engine.generate(prompts, sampling)
    engine.resume(["kv_cache"])
    assert answers(engine.generate(prompts, sampling)) == before


def test_the_kv_cache_alone_goes_and_comes_back_without_an_update(engine: VLLMEngine, prompts: PromptBatch) -> None:
    sampling = SamplingParams(max_tokens=8)
    before = answers(engine.generate(prompts, sampling))
    engine.release(["kv_cache"])
    engine.resume(["kv_cache"])
    assert answers(engine.generate(prompts, sampling)) == before


def test_a_failed_update_is_not_answered_with_and_the_next_one_heals(
    engine: VLLMEngine, prompts: PromptBatch, model_folder: Path
) -> None:
    sampling = SamplingParams(max_tokens=8)
    before = answers(engine.generate(prompts, sampling))
    weights = dict(stream_tensors(model_folder))
    name = "model.layers.0.mlp.down_proj.weight"
    for faulty, message in (
        ({key: value for key, value in weights.items() if key != name}, f"lacks tensor '{name}' of Qwen3ForCausalLM"),
        ({**weights, name + "s": weights[name]}, f"has a tensor '{name}s' .* Did you mean '{name}'"),
        ({**weights, name: weights[name].T}, rf"tensor '{name}' .* has shape \[48, 32\], .* expects \[32, 48\]"),
    ):
        with pytest.raises(ModelError, match=message):
            engine.update_weights(faulty.items(), 1)
        with pytest.raises(ModelError, match="no whole set of weights"):
            engine.generate(prompts, sampling)
        engine.update_weights(weights.items(), 2)
        assert answers(engine.generate(prompts, sampling)) == before


def test_what_the_actor_raises_while_it_exports_is_raised(
    engine: VLLMEngine, prompts: PromptBatch, model_folder: Path
) -> None:
    def failing() -> Iterator[tuple[str, torch.Tensor]]:
        yield from list(stream_tensors(model_folder))[:5]
        raise RuntimeError("a rank died")

    with pytest.raises(RuntimeError, match="a rank died"):
        engine.update_weights(failing(), 1)
    engine.update_weights(stream_tensors(model_folder), 2)
    assert len(engine.generate(prompts, SamplingParams(max_tokens=2))) == 12


def test_non_finite_logits_are_reported(engine: VLLMEngine, prompts: PromptBatch, model_folder: Path) -> None:
    engine.update_weights([(name, tensor * float("nan")) for name, tensor in stream_tensors(model_folder)], 5)
    with pytest.raises(ModelError, match=r"non-finite logits \(weights of version 5\)"):
        engine.generate(prompts, SamplingParams(max_tokens=4))


def test_weights_that_were_not_finite_leave_nothing_behind(
    engine: VLLMEngine, prompts: PromptBatch, model_folder: Path
) -> None:
    """Blocks of the cache that hold NaN are used again, by prompts that end within a block and by answers that need another."""
    long = PromptBatch(prompts.prompts, tuple((*ids, *(7,) * 120) for ids in prompts.token_ids))
    sampling = SamplingParams(max_tokens=12)
    before = [answers(engine.generate(batch, sampling)) for batch in (prompts, long)]
    engine.update_weights([(name, tensor * float("nan")) for name, tensor in stream_tensors(model_folder)], 5)
    for batch in (prompts, long):
        with pytest.raises(ModelError, match="non-finite logits"):
            engine.generate(batch, sampling)
    engine.update_weights(stream_tensors(model_folder), 6)
    for _ in range(2):  # the second time, with cached beginnings
        assert [answers(engine.generate(batch, sampling)) for batch in (prompts, long)] == before


def test_prompts_beyond_the_context_are_refused_before_work_starts(engine: VLLMEngine) -> None:
    batch = PromptBatch((Prompt(row_id=41),), ((7,) * 500,))
    engine.generate(batch, SamplingParams(max_tokens=12))
    with pytest.raises(ModelError, match=r"row 41 has 500 tokens; with 13 tokens of answer .* context of 512"):
        engine.generate(batch, SamplingParams(max_tokens=13))
    assert not engine.has_work


def test_temperatures_that_vllm_would_change_are_refused(engine: VLLMEngine, prompts: PromptBatch) -> None:
    with pytest.raises(ModelError, match=r"temperatures of 0\.01 and more, got 0\.001; use 0"):
        engine.generate(prompts, SamplingParams(max_tokens=1, temperature=0.001))


def test_no_prompts_give_no_rows(engine: VLLMEngine) -> None:
    assert len(engine.generate(PromptBatch((), ()), SamplingParams(max_tokens=4))) == 0


def test_a_process_holds_one_engine(engine: VLLMEngine, engine_model: Callable[..., EngineModel]) -> None:
    with pytest.raises(ModelError, match="has a vLLM engine already"):
        VLLMEngine(VLLMEngineOptions(), model=engine_model())
    assert not engine.has_work


def test_a_longer_context_than_the_models_is_refused(engine_model: Callable[..., EngineModel]) -> None:
    with pytest.raises(ModelError, match=r"max_model_len = 513 is beyond the model's context of 512"):
        VLLMEngine(VLLMEngineOptions(max_model_len=513), model=engine_model())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", r"does not run on a GPU \(run.device is cuda\); pip install .rlkit-vllm\[gpu\]"),
        ("cuda:1", "not on cuda:1; choose with CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_device_that_this_vllm_cannot_use_is_refused(
    engine_model: Callable[..., EngineModel], device: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        VLLMEngine(VLLMEngineOptions(), model=engine_model(device=device))


def test_an_engine_whose_process_has_died_is_broken_rather_than_the_request(
    engine: VLLMEngine, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    from rlkit.cluster.replica_pool import is_system_error

    def die() -> None:
        raise EngineDeadError

    with monkeypatch.context() as broken:
        broken.setattr(engine._vllm._engine, "step", die)
        with pytest.raises(RuntimeError, match="vLLM's engine has died") as caught:
            engine.generate(prompts, SamplingParams(max_tokens=2))
    assert is_system_error(caught.value)
    assert len(engine.generate(prompts, SamplingParams(max_tokens=2))) == len(prompts)


def test_a_request_that_vllm_fails_to_take_leaves_no_work_behind(
    engine: VLLMEngine, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(engine._vllm._engine.engine_core, "add_request", full)
        with pytest.raises(RuntimeError, match="no memory"):
            engine.submit(CompletionRequest("a", prompts.token_ids[0], SamplingParams(max_tokens=2)))
    assert not engine.has_work
    assert len(engine.generate(prompts, SamplingParams(max_tokens=2))) == len(prompts)


def test_a_model_that_vllm_cannot_compute_is_refused_at_the_start(
    shared_engine: VLLMEngine, engine_model: Callable[..., EngineModel], model_folder: Path, tmp_path: Path
) -> None:
    """Last in this file: a process holds one engine, so the shared one is closed."""
    shared_engine.close()
    narrow = {**json.loads((model_folder / "config.json").read_text()), "head_dim": 16}
    config = Qwen3Config(**narrow)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    load_tokenizer(model_folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as refused:
        VLLMEngine(VLLMEngineOptions(), model=engine_model(tmp_path))
    assert "head_dim=16" in str(refused.value) and "\n" not in str(refused.value)
    VLLMEngine(VLLMEngineOptions(), model=engine_model()).close()  # the failed start is not in the way
