from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_hf.engine import HFEngine
from rlkit_hf.forward import PaddedForward, RowForward
from transformers import AutoModelForCausalLM

from rlkit.errors import ModelError
from rlkit.models.safetensors_io import stream_tensors
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams

EngineOn = Callable[..., HFEngine]

MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 8},
    "qwen2": {},
    "llama": {"num_key_value_heads": 4},
    "llama (one key-value head)": {"model_type": "llama", "num_key_value_heads": 1},
    "gemma3_text": {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": {"head_dim": 8, "sliding_window": 5},
    "gemma2 (soft caps)": {"model_type": "gemma2", "head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 0.5},
    "gpt2 (learned positions)": {"model_type": "gpt2"},
    "opt (learned positions)": {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32},
    "deepseek_v3 (latent attention)": {
        "model_type": "deepseek_v3",
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 12,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
    "lfm2 (convolutions)": {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]},
    "gpt_neox": {"model_type": "gpt_neox"},
}


@pytest.fixture(params=list(MODELS))
def any_folder(request: pytest.FixtureRequest, tmp_path: Path, write_model: Callable[..., Path]) -> Path:
    """Plain full attention with several groupings, and sliding windows."""
    changes = dict(MODELS[request.param])
    return write_model(tmp_path / "model", changes.pop("model_type", request.param), **changes)


def answers(rollouts: Rollouts) -> list[list[int]]:
    return [row.tolist() for row in rollouts.response_ids.rows()]


def worst_log_prob_error(rollouts: Rollouts, model: Any, temperature: float) -> float:
    assert rollouts.rollout_log_probs is not None
    worst = 0.0
    rows = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), rollouts.rollout_log_probs.rows(), strict=True)
    for prompt, response, log_probs in rows:
        with torch.no_grad():
            logits = model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / temperature, -1).gather(1, response[:, None])[:, 0]
        worst = max(worst, float((expected - log_probs).abs().max()))
    return worst


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_agree_with_an_unpadded_recomputation(
    engine_on: EngineOn, any_folder: Path, prompts: PromptBatch, temperature: float
) -> None:
    rollouts = engine_on(any_folder).generate(
        prompts, SamplingParams(max_tokens=12, samples=3, temperature=temperature)
    )
    model = AutoModelForCausalLM.from_pretrained(any_folder, dtype=torch.float32).eval()
    assert worst_log_prob_error(rollouts, model, temperature) < 1e-4


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_transformers_generate(
    engine_on: EngineOn, any_folder: Path, prompts: PromptBatch, penalty: float
) -> None:
    rollouts = engine_on(any_folder).generate(
        prompts, SamplingParams(max_tokens=12, temperature=0.0, repetition_penalty=penalty)
    )
    model = AutoModelForCausalLM.from_pretrained(any_folder, dtype=torch.float32).eval()
    end = model.generation_config.eos_token_id
    for prompt, answer in zip(prompts.token_ids, answers(rollouts), strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, repetition_penalty=penalty
        )[0, len(prompt) :].tolist()
        assert answer == (expected[: expected.index(end) + 1] if end in expected else expected)


CONTINUOUS = [name for name in MODELS if not name.startswith(("gemma2 ", "deepseek", "lfm2"))]


@pytest.mark.parametrize("name", list(MODELS))
def test_causal_attention_takes_requests_in_beside_others_and_the_rest_begin_together(
    engine_on: EngineOn, tmp_path: Path, write_model: Callable[..., Path], name: str
) -> None:
    changes = dict(MODELS[name])
    folder = write_model(tmp_path / "model", changes.pop("model_type", name), **changes)
    forward = engine_on(folder)._scheduler._forward
    assert isinstance(forward, RowForward if name in CONTINUOUS else PaddedForward)


def test_rows_of_a_prompt_are_adjacent_in_the_order_of_prompts(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    rollouts = engine_on(model_folder).generate(prompts, SamplingParams(max_tokens=4, samples=3))
    assert rollouts.group_ids.tolist() == [group for group in range(12) for _ in range(3)]
    assert [tuple(row.tolist()) for row in rollouts.prompt_ids.rows()] == [
        p for p in prompts.token_ids for _ in range(3)
    ]
    assert [prompt.row_id for prompt in rollouts.prompts] == [100 + group for group in range(12) for _ in range(3)]
    assert rollouts.policy_version == 0


@pytest.mark.parametrize(
    "options",
    [{"max_batch_tokens": 1}, {"max_batch_tokens": 100}, {"max_batch_tokens": 250}, {"max_prefill_tokens": 20}],
)
def test_answers_do_not_depend_on_how_they_are_batched(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch, options: dict[str, int]
) -> None:
    sampling = SamplingParams(max_tokens=12, samples=3, seed=7, top_p=0.95)
    whole = engine_on(model_folder).generate(prompts, sampling)
    small = engine_on(model_folder, **options).generate(prompts, sampling)
    assert answers(small) == answers(whole)
    assert small.finish_reasons == whole.finish_reasons
    assert whole.rollout_log_probs is not None and small.rollout_log_probs is not None
    assert torch.allclose(small.rollout_log_probs.values, whole.rollout_log_probs.values, atol=1e-5)


def test_a_batch_is_composed_as_in_a_new_process_whatever_was_answered_before(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(engine: HFEngine, max_tokens: int) -> list[int]:
        seen: list[int] = []
        advance = engine._advance

        def count() -> list[Any]:
            rows = advance()
            seen.append(len(rows))
            return rows

        with monkeypatch.context() as patch:
            patch.setattr(engine, "_advance", count)
            engine.generate(prompts, SamplingParams(max_tokens=max_tokens, samples=3, seed=7))
        return seen

    kept, new = engine_on(model_folder, max_batch_tokens=250), engine_on(model_folder, max_batch_tokens=250)
    sizes(kept, 2)
    composed = sizes(kept, 40)
    assert max(composed) < 36  # the budget binds
    assert composed == sizes(new, 40)


def test_answers_of_sliding_models_do_not_depend_on_batching_either(
    engine_on: EngineOn, tmp_path: Path, prompts: PromptBatch, write_model: Callable[..., Path]
) -> None:
    folder = write_model(tmp_path / "mistral", "mistral", **MODELS["mistral"])
    sampling = SamplingParams(max_tokens=12, samples=3, seed=7)
    whole = answers(engine_on(folder).generate(prompts, sampling))
    assert answers(engine_on(folder, max_batch_tokens=100).generate(prompts, sampling)) == whole


def test_a_row_keeps_its_samples_in_other_company(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    sampling = SamplingParams(max_tokens=12, samples=2, seed=3)
    whole = answers(engine.generate(prompts, sampling))
    chosen = [7, 2, 11]
    assert answers(engine.generate(prompts.select(chosen), sampling)) == [
        whole[2 * row + sample] for row in chosen for sample in (0, 1)
    ]


def test_asking_for_more_samples_keeps_the_first_ones(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    few = answers(engine.generate(prompts, SamplingParams(max_tokens=8, samples=2, seed=3)))
    many = answers(engine.generate(prompts, SamplingParams(max_tokens=8, samples=5, seed=3)))
    assert few == [many[5 * group + sample] for group in range(12) for sample in (0, 1)]


def test_a_prompt_given_twice_is_answered_anew(engine_on: EngineOn, model_folder: Path, prompts: PromptBatch) -> None:
    engine = engine_on(model_folder)
    twice = answers(engine.generate(prompts.select([2, 2]), SamplingParams(max_tokens=12, samples=2, seed=3)))
    once = answers(engine.generate(prompts.select([2]), SamplingParams(max_tokens=12, samples=4, seed=3)))
    assert twice == once
    assert len({tuple(answer) for answer in twice}) > 1


def test_tokens_are_drawn_with_the_models_probabilities(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    one = prompts.select([2])
    rollouts = engine_on(model_folder).generate(one, SamplingParams(max_tokens=1, samples=20_000, seed=11))
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = torch.softmax(model(torch.tensor(one.token_ids)).logits[0, -1].double(), -1)
    counts = torch.bincount(rollouts.response_ids.values, minlength=len(expected)).double()
    likely = expected * 20_000 >= 5
    statistic = float(((counts - expected * 20_000) ** 2 / (expected * 20_000))[likely].sum())
    assert statistic < int(likely.sum()) + 5 * (2 * int(likely.sum())) ** 0.5  # chi-square, about five sigma


def test_the_end_token_is_kept_and_ends_the_answer(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=30, samples=8, temperature=1.5))
    end = engine._source.tokenizer.eos_token_id
    assert set(rollouts.finish_reasons) == {"stop", "length"}
    for answer, reason in zip(answers(rollouts), rollouts.finish_reasons, strict=True):
        assert end not in answer[:-1]
        assert (answer[-1] == end) == (reason == "stop")
        assert reason == "stop" or len(answer) == 30


def test_the_ends_named_by_the_generation_config_count_too(
    engine_on: EngineOn, model_folder: Path, tmp_path: Path, prompts: PromptBatch
) -> None:
    folder = tmp_path / "two-ends"
    shutil.copytree(model_folder, folder)
    free = answers(engine_on(folder).generate(prompts, SamplingParams(max_tokens=12, seed=1)))
    second_end = next(answer[1] for answer in free if len(answer) > 4)
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "eos_token_id": [config["eos_token_id"], second_end]}))
    ended = answers(engine_on(folder).generate(prompts, SamplingParams(max_tokens=12, seed=1)))
    assert ended == [answer[: answer.index(second_end) + 1] if second_end in answer else answer for answer in free]


def test_a_stop_string_ends_the_answer_with_the_token_that_completes_it(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    tokenizer = engine._source.tokenizer
    free = answers(engine.generate(prompts, SamplingParams(max_tokens=12, samples=4, seed=2)))
    pair = next(answer[2:4] for answer in free if len(answer) > 5)
    stop = tokenizer.decode(pair, skip_special_tokens=False)
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=12, samples=4, seed=2, stop=(stop, "never")))
    ended = 0
    for before, after, reason in zip(free, answers(rollouts), rollouts.finish_reasons, strict=True):
        places = [i for i in range(len(before) - 1) if before[i : i + 2] == pair]
        assert after == (before[: places[0] + 2] if places else before)
        ended += bool(places) and reason == "stop"
    assert ended


def test_top_k_of_one_is_greedy_but_log_probs_are_of_the_whole_distribution(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    greedy = engine.generate(prompts, SamplingParams(max_tokens=8, temperature=0.0))
    top_one = engine.generate(prompts, SamplingParams(max_tokens=8, temperature=1.0, top_k=1, seed=9))
    assert answers(top_one) == answers(greedy)
    assert greedy.rollout_log_probs is not None and top_one.rollout_log_probs is not None
    assert torch.equal(greedy.rollout_log_probs.values, top_one.rollout_log_probs.values)
    assert bool((top_one.rollout_log_probs.values < -1e-3).any())


def test_new_weights_answer_and_carry_their_version(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    sampling = SamplingParams(max_tokens=8, samples=2)
    before = answers(engine.generate(prompts, sampling))
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    engine.update_weights(model.state_dict().items(), version=4)
    rollouts = engine.generate(prompts, sampling)
    assert rollouts.policy_version == 4
    assert answers(rollouts) != before
    assert worst_log_prob_error(rollouts, model, 1.0) < 1e-4


def test_released_weights_are_gone_until_they_are_given_again(
    engine_on: EngineOn, model_folder: Path, prompts: PromptBatch
) -> None:
    engine = engine_on(model_folder)
    sampling = SamplingParams(max_tokens=8)
    before = answers(engine.generate(prompts, sampling))
    engine.release(["weights", "kv_cache"])
    assert sum(parameter.numel() for parameter in engine._model.parameters()) == 0
    with pytest.raises(ModelError, match="resume"):
        engine.update_weights(stream_tensors(model_folder), 1)
    engine.resume(["weights"])
    with pytest.raises(ModelError, match="update_weights before generate"):
        engine.generate(prompts, sampling)
    engine.update_weights(stream_tensors(model_folder), 1)
    assert answers(engine.generate(prompts, sampling)) == before


def test_a_failed_update_is_not_answered_with(engine_on: EngineOn, model_folder: Path, prompts: PromptBatch) -> None:
    engine = engine_on(model_folder)
    incomplete = [pair for pair in stream_tensors(model_folder) if pair[0] != "model.norm.weight"]
    with pytest.raises(ModelError, match=r"lacks tensor 'model\.norm\.weight'"):
        engine.update_weights(incomplete, 1)
    with pytest.raises(ModelError, match="no whole set of weights"):
        engine.generate(prompts, SamplingParams(max_tokens=2))


def test_prompts_beyond_the_context_are_refused_before_work_starts(engine_on: EngineOn, model_folder: Path) -> None:
    batch = PromptBatch((Prompt(row_id=41),), ((7,) * 120,))
    engine = engine_on(model_folder)
    engine.generate(batch, SamplingParams(max_tokens=8))
    with pytest.raises(ModelError, match=r"row 41 has 120 tokens; with 9 tokens of answer .* context of 128"):
        engine.generate(batch, SamplingParams(max_tokens=9))


def test_an_empty_prompt_is_refused(engine_on: EngineOn, model_folder: Path) -> None:
    with pytest.raises(ModelError, match="row 3 has no tokens"):
        engine_on(model_folder).generate(PromptBatch((Prompt(row_id=3),), ((),)), SamplingParams(max_tokens=1))


def test_no_prompts_give_no_rows(engine_on: EngineOn, model_folder: Path) -> None:
    assert len(engine_on(model_folder).generate(PromptBatch((), ()), SamplingParams(max_tokens=4))) == 0


def test_non_finite_logits_are_reported(engine_on: EngineOn, model_folder: Path, prompts: PromptBatch) -> None:
    engine = engine_on(model_folder)
    broken = [(name, tensor * float("nan")) for name, tensor in stream_tensors(model_folder)]
    engine.update_weights(broken, 5)
    with pytest.raises(ModelError, match=r"non-finite logits \(weights of version 5\)"):
        engine.generate(prompts, SamplingParams(max_tokens=4))


def test_a_closed_engine_says_so(engine_on: EngineOn, model_folder: Path, prompts: PromptBatch) -> None:
    engine = engine_on(model_folder)
    engine.close()
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        engine.generate(prompts, SamplingParams(max_tokens=1))
