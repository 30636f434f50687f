"""Mixtures of experts: transformers fuses their experts in memory and splits them on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlkit.errors import ModelError
from rlkit.models.causal import assign_weights, build_model, export_weights, load_weights, save_model
from rlkit.models.converted import needs_conversion
from rlkit.models.safetensors_io import read_headers

EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "decoder_sparse_step": 1,
    "architectures": ["Qwen3MoeForCausalLM"],
}


def test_mixtures_of_experts_load_export_and_save_with_equal_logits(
    reference_model: Any, token_ids: torch.Tensor, tmp_path: Path
) -> None:
    folder, reference = reference_model("qwen3_moe", **EXPERTS)
    module = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    assert needs_conversion(module)
    load_weights(module, folder)
    assert {name for name, _ in export_weights(module)} == set(read_headers(folder))
    save_model(export_weights(module), module.config, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        expected = reference(token_ids).logits
        assert torch.equal(module(token_ids).logits, expected)
        assert torch.equal(again(token_ids).logits, expected)


def test_updates_of_mixtures_of_experts_arrive_under_their_names_on_disk(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3_moe", **EXPERTS)
    module = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    load_weights(module, folder)
    doubled = {name: 2 * tensor for name, tensor in export_weights(module)}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assign_weights(module, doubled.items(), where="the test")
    assert all(torch.equal(tensor, 2 * before[name]) for name, tensor in module.state_dict().items())


def test_a_missing_expert_is_refused_by_name(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3_moe", **EXPERTS)
    module = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    load_weights(module, folder)
    tensors = dict(export_weights(module))
    del tensors["model.norm.weight"]
    with pytest.raises(ModelError, match=r"lacks tensor 'model\.norm\.weight'"):
        assign_weights(module, tensors.items(), where="the test")


def test_dense_models_need_no_conversion(reference_model: Any) -> None:
    assert not any(needs_conversion(reference_model(name, name=name)[1]) for name in ("qwen2", "qwen3", "llama"))


@pytest.fixture
def module(reference_model: Any) -> Any:
    folder, _ = reference_model("qwen3_moe", **EXPERTS)
    made = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    load_weights(made, folder)
    return made


def test_a_layer_is_in_place_before_the_next_one_comes(module: Any) -> None:
    doubled = {name: 2 * tensor for name, tensor in export_weights(module)}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = [name for name in before if ".layers.0." in name]
    seen = []

    def arriving() -> Any:
        for name, tensor in doubled.items():
            if ".layers.1." in name and not seen:
                seen.extend(torch.equal(module.state_dict()[key], 2 * before[key]) for key in first)
            yield name, tensor

    assign_weights(module, arriving(), where="the test")
    assert seen and all(seen)


def test_tensors_may_arrive_in_any_order(module: Any) -> None:
    doubled = [(name, 2 * tensor) for name, tensor in export_weights(module)]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assign_weights(module, doubled[1::2][::-1] + doubled[::2], where="the test")
    assert all(torch.equal(tensor, 2 * before[name]) for name, tensor in module.state_dict().items())


def test_tensors_that_do_not_belong_are_refused(module: Any) -> None:
    tensors = dict(export_weights(module))
    with pytest.raises(ModelError, match=r"has unknown tensor 'model\.elsewhere\.weight'"):
        assign_weights(module, {**tensors, "model.elsewhere.weight": torch.zeros(2)}.items(), where="the test")
    with pytest.raises(ModelError, match=r"has misshapen tensor 'model\.norm\.weight'"):
        assign_weights(module, {**tensors, "model.norm.weight": torch.zeros(2)}.items(), where="the test")
    one = next(name for name in tensors if "layers.1." in name and "experts.2" in name)
    del tensors[one]
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.experts|do not fit"):
        assign_weights(module, tensors.items(), where="the test")
