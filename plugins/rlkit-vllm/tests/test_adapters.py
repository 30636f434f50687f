"""Adapters on the real vLLM; what every engine with adapters must do is in the contract suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.errors import ModelError
from rlkit.models.adapter_folder import merged_weights
from rlkit.models.safetensors_io import stream_tensors
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import AdapterWeights, Prompt, PromptBatch, Rollouts, SamplingParams

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

SAMPLING = SamplingParams(max_tokens=10, samples=2, seed=3)


def adapter_on(folder: Path, *, layers: tuple[str, ...], rank: int = 4) -> AdapterWeights:
    generator = torch.Generator().manual_seed(len(layers))
    return AdapterWeights(
        1.5,
        {
            name.removesuffix(".weight"): (
                torch.randn(rank, tensor.shape[1], generator=generator) / 8,
                torch.randn(tensor.shape[0], rank, generator=generator) / 8,
            )
            for name, tensor in stream_tensors(folder)
            if any(f".{layer}." in name for layer in layers)
        },
    )


@pytest.fixture(scope="module")
def adapted_engine(vllm_on_cpu: None, engine_model: Callable[..., EngineModel]) -> Iterator[Any]:
    from rlkit_vllm.engine import VLLMEngine
    from rlkit_vllm.options import VLLMEngineOptions

    engine = VLLMEngine(VLLMEngineOptions(), model=engine_model(lora_rank=5))
    yield engine
    engine.close()


@pytest.fixture
def engine(adapted_engine: Any, model_folder: Path) -> Any:
    adapted_engine.resume(["weights", "kv_cache"])
    adapted_engine.update_weights(stream_tensors(model_folder), 0)
    return adapted_engine


def same_answers(found: Rollouts, expected: Rollouts) -> None:
    assert found.response_ids.values.tolist() == expected.response_ids.values.tolist()
    assert found.rollout_log_probs is not None and expected.rollout_log_probs is not None
    torch.testing.assert_close(
        found.rollout_log_probs.values, expected.rollout_log_probs.values, atol=1e-4, rtol=0, equal_nan=False
    )


@pytest.mark.parametrize(
    "layers",
    [("q_proj",), ("k_proj", "up_proj"), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")],
    ids=lambda layers: f"{len(layers)}-kinds",
)
def test_any_part_of_a_fused_layer_may_be_adapted(
    engine: Any, prompts: PromptBatch, model_folder: Path, layers: tuple[str, ...]
) -> None:
    adapter = adapter_on(model_folder, layers=layers)
    engine.update_adapter(adapter, 1)
    found = engine.generate(prompts, SAMPLING)
    engine.update_weights(merged_weights(stream_tensors(model_folder), adapter), 2)
    same_answers(found, engine.generate(prompts, SAMPLING))


def test_an_adapter_goes_on_the_base_that_was_loaded_last(
    engine: Any, prompts: PromptBatch, model_folder: Path, other_folder: Path
) -> None:
    adapter = adapter_on(model_folder, layers=("q_proj", "down_proj"))
    engine.update_adapter(adapter, 1)
    engine.update_weights(stream_tensors(other_folder), 2)
    engine.update_adapter(adapter, 3)
    found = engine.generate(prompts, SAMPLING)
    engine.update_weights(merged_weights(stream_tensors(other_folder), adapter), 4)
    same_answers(found, engine.generate(prompts, SAMPLING))


def test_what_an_older_adapter_computed_of_a_prompt_is_forgotten(engine: Any, model_folder: Path) -> None:
    """vLLM keeps whole blocks, of 128 tokens on a CPU, by the adapter's name, which is always the same."""
    generator = torch.Generator().manual_seed(0)
    token_ids = tuple(torch.randint(5, 28, (300,), generator=generator).tolist())
    long = PromptBatch((Prompt(row_id=0),), (token_ids,))
    first, second = (adapter_on(model_folder, layers=layers) for layers in (("q_proj",), ("k_proj", "v_proj")))
    engine.update_adapter(first, 1)
    engine.generate(long, SAMPLING)
    engine.update_adapter(second, 2)
    found = engine.generate(long, SAMPLING)
    engine.update_weights(merged_weights(stream_tensors(model_folder), second), 3)
    same_answers(found, engine.generate(long, SAMPLING))


def test_each_refusal_says_what_is_wrong_and_leaves_the_adapter_before_it(
    engine: Any, prompts: PromptBatch, model_folder: Path
) -> None:
    engine.update_adapter(adapter_on(model_folder, layers=("q_proj",)), 1)
    before = engine.generate(prompts, SAMPLING)
    good = adapter_on(model_folder, layers=("up_proj",))
    layer = next(iter(good.layers))
    down, up = good.layers[layer]
    for wrong, named in (
        (adapter_on(model_folder, layers=("q_proj",), rank=6), "has rank 6, but .* was started for 5"),
        (replace(good, layers={f"{layer}s": (down, up)}), f"a layer '{layer}s' that Qwen3ForCausalLM does not"),
        (replace(good, layers={layer: (down, up[:-1])}), f"layer '{layer}' has matrices"),
        (replace(good, layers={layer: (down[1:], up)}), f"layer '{layer}' has matrices"),
        (replace(good, layers={"model.norm": (down, up)}), "layer 'model.norm' has matrices|shape"),
    ):
        with pytest.raises(ModelError, match=named):
            engine.update_adapter(wrong, 2)
        same_answers(engine.generate(prompts, SAMPLING), before)


def test_without_a_base_model_there_is_nothing_to_adapt(engine: Any, model_folder: Path) -> None:
    engine.release(["weights"])
    engine.resume(["weights"])
    with pytest.raises(ModelError, match="no base model for the adapter: call resume and update_weights"):
        engine.update_adapter(adapter_on(model_folder, layers=("q_proj",)), 1)


def test_workers_in_another_process_get_the_adapter_through_shared_memory(
    engine: Any, prompts: PromptBatch, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_on(model_folder, layers=("q_proj", "down_proj"))
    engine.update_adapter(adapter, 1)
    expected = engine.generate(prompts, SAMPLING)
    engine.update_weights(stream_tensors(model_folder), 2)
    monkeypatch.setattr(engine._vllm, "_shares_process", False)
    engine.update_adapter(adapter, 3)
    same_answers(engine.generate(prompts, SAMPLING), expected)


@pytest.mark.parametrize(("rank", "options"), [(0, {}), (4, {"lora": False}), (513, {})])
def test_an_engine_is_built_for_adapters_only_when_they_can_come(
    engine_model: Callable[..., EngineModel], monkeypatch: pytest.MonkeyPatch, rank: int, options: dict[str, Any]
) -> None:
    from rlkit_vllm import engine as engine_module
    from rlkit_vllm.options import VLLMEngineOptions

    monkeypatch.setattr(engine_module, "VLLM", lambda settings: None)
    built = engine_module.VLLMEngine(VLLMEngineOptions(**options), model=engine_model(lora_rank=rank))
    assert not built.takes_adapters
