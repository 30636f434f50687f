from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rlkit_vllm.expected_weights import ExpectedWeights

from rlkit.errors import ModelError
from rlkit.models.causal import build_model
from rlkit.models.safetensors_io import stream_tensors
from rlkit.rollout.engine_model import EngineModel

NORM = "model.norm.weight"


@pytest.fixture
def weights(model_folder: Path) -> dict[str, torch.Tensor]:
    return dict(stream_tensors(model_folder))


@pytest.fixture
def expected(engine_model: Callable[..., EngineModel]) -> ExpectedWeights:
    return ExpectedWeights(engine_model())


def test_every_tensor_passes_once_and_untouched(expected: ExpectedWeights, weights: dict[str, torch.Tensor]) -> None:
    passed = dict(expected.checked(weights.items()))
    assert list(passed) == list(weights)
    assert all(passed[name] is weights[name] for name in weights)


def test_tensors_pass_one_at_a_time(expected: ExpectedWeights, weights: dict[str, torch.Tensor]) -> None:
    taken = []
    stream = expected.checked((taken.append(name), (name, tensor))[1] for name, tensor in weights.items())
    next(stream)
    assert len(taken) == 1


def test_a_tied_tensor_may_come_under_its_other_name_or_twice(
    expected: ExpectedWeights, weights: dict[str, torch.Tensor]
) -> None:
    embeddings = weights.pop("model.embed_tokens.weight")
    under_the_other = dict(expected.checked({**weights, "lm_head.weight": embeddings}.items()))
    assert under_the_other["model.embed_tokens.weight"] is embeddings
    twice = expected.checked({"model.embed_tokens.weight": embeddings, **weights, "lm_head.weight": embeddings}.items())
    assert len(list(twice)) == len(weights) + 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unknown", rf"has a tensor '{NORM}s' that Qwen3ForCausalLM does not\. Did you mean '{NORM}'"),
        ("shape", rf"tensor '{NORM}' of the weight update has shape \[31\], but Qwen3ForCausalLM expects \[32\]"),
        ("missing", rf"the weight update lacks tensor '{NORM}' of Qwen3ForCausalLM"),
    ],
)
def test_a_wrong_update_is_refused_by_name(
    expected: ExpectedWeights, weights: dict[str, torch.Tensor], fault: str, message: str
) -> None:
    faulty = {
        "unknown": {**weights, f"{NORM}s": weights[NORM]},
        "shape": {**weights, NORM: weights[NORM][:-1]},
        "missing": {name: tensor for name, tensor in weights.items() if name != NORM},
    }[fault]
    with pytest.raises(ModelError, match=message):
        list(expected.checked(faulty.items()))


def test_names_of_fused_experts_are_those_on_disk(
    tmp_path: Path, engine_model: Callable[..., EngineModel], model_folder: Path
) -> None:
    """transformers holds all experts of a layer in one tensor; files and updates name each expert."""
    from transformers import Qwen3MoeConfig

    config = Qwen3MoeConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=1, num_experts=2,
        num_experts_per_tok=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
        architectures=["Qwen3MoeForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    model = engine_model(tmp_path, tokenizer=engine_model().tokenizer, family=engine_model().family)
    module = build_model(config, head="causal_lm", dtype=torch.float32, device="cpu")
    weights = dict(model.family.export_weights(module))
    assert any(".experts.1.gate_proj.weight" in name for name in weights)
    assert set(dict(ExpectedWeights(model).checked(weights.items()))) == set(weights)
