from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlkit.errors import ModelError
from rlkit.models.causal import assign_weights, build_model, export_weights, load_config, load_weights, save_model
from rlkit.models.safetensors_io import INDEX_FILE, stream_tensors, write_sharded

FAMILIES = ("qwen2", "qwen3", "llama")


def opened(folder: Path, *, head: Any = "causal_lm", dtype: torch.dtype = torch.float32) -> Any:
    module = build_model(folder, head=head, dtype=dtype, device="cpu")
    load_weights(module, folder)
    return module


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_loaded_logits_equal_from_pretrained_bit_for_bit(
    reference_model: Any, token_ids: torch.Tensor, model_type: str, tied: bool
) -> None:
    folder, _ = reference_model(model_type, tied=tied)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(opened(folder)(token_ids).logits, expected(token_ids).logits)


@pytest.mark.parametrize("max_shard_bytes", [8_000, 5_000_000_000])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_saved_models_open_in_transformers_with_equal_logits(
    reference_model: Any, token_ids: torch.Tensor, tmp_path: Path, model_type: str, tied: bool, max_shard_bytes: int
) -> None:
    folder, reference = reference_model(model_type, tied=tied)
    module = opened(folder)
    out = tmp_path / "out"
    save_model(export_weights(module), module.config, out, max_shard_bytes=max_shard_bytes)
    assert (out / INDEX_FILE).exists() == (max_shard_bytes == 8_000)
    again, report = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        assert torch.equal(again.eval()(token_ids).logits, reference(token_ids).logits)


def test_llama3_rope_scaling_survives_loading_and_saving(
    reference_model: Any, token_ids: torch.Tensor, tmp_path: Path
) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    }
    folder, reference = reference_model("llama", rope_parameters=rope)
    module = opened(folder)
    save_model(export_weights(module), module.config, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        expected = reference(token_ids).logits
        assert torch.equal(module(token_ids).logits, expected)
        assert torch.equal(again(token_ids).logits, expected)


def test_bfloat16_models_keep_rotary_frequencies_in_float32(reference_model: Any, token_ids: torch.Tensor) -> None:
    folder, _ = reference_model("qwen3")
    module = opened(folder, dtype=torch.bfloat16)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert torch.equal(module.model.rotary_emb.inv_freq, expected.model.rotary_emb.inv_freq)
    assert module.model.rotary_emb.inv_freq.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(module(token_ids).logits, expected(token_ids).logits)


def test_tied_tensors_are_exported_once_under_the_embedding_name(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3", tied=True)
    names = [name for name, _ in export_weights(opened(folder))]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    assert len(names) == len(set(names))


def test_the_embedding_wins_over_a_differing_copy_of_a_tied_head(reference_model: Any) -> None:
    folder, reference = reference_model("qwen3", tied=True)
    embedding = reference.model.embed_tokens.weight.detach()
    tensors = dict(stream_tensors(folder))
    for order in (["lm_head.weight", *tensors], [*tensors, "lm_head.weight"]):
        given = {**tensors, "lm_head.weight": torch.zeros_like(embedding)}
        module = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
        assign_weights(module, ((name, given[name]) for name in order), where="the test")
        assert torch.equal(module.lm_head.weight, embedding)


def test_value_models_share_the_backbone_and_start_at_zero(reference_model: Any, token_ids: torch.Tensor) -> None:
    folder, reference = reference_model("llama")
    module = opened(folder, head="value")
    with torch.no_grad():
        hidden = module.model(input_ids=token_ids, use_cache=False).last_hidden_state
        assert torch.equal(hidden, reference.model(input_ids=token_ids, use_cache=False).last_hidden_state)
        values = module(token_ids)
    assert values.shape == token_ids.shape
    assert not values.any()
    assert module.score.bias is None


def test_value_models_come_back_as_saved_and_open_as_sequence_classifiers(
    reference_model: Any, token_ids: torch.Tensor, tmp_path: Path
) -> None:
    folder, _ = reference_model("qwen3")
    module = opened(folder, head="value")
    with torch.no_grad():
        module.score.weight.normal_()
    save_model(export_weights(module), module.config, tmp_path / "critic")
    again = opened(tmp_path / "critic", head="value")
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "critic", dtype=torch.float32).eval()
    with torch.no_grad():
        values = module(token_ids)
        assert torch.equal(again(token_ids), values)
        last = classifier(token_ids[:1]).logits[0, 0]
    assert torch.allclose(last, values[0, -1], atol=1e-6)


def test_packed_calls_reach_the_backbone_of_a_value_model(reference_model: Any, token_ids: torch.Tensor) -> None:
    from rlkit.models.packed import PackedLayout, packed_forward, use_packed_attention

    folder, _ = reference_model("qwen3")
    module = opened(folder, head="value")
    with torch.no_grad():
        module.score.weight.normal_()
        expected = module(token_ids)
        use_packed_attention(module)
        layout = PackedLayout.of([11, 11], "cpu")
        packed = module.score(packed_forward(module.model, token_ids.flatten(), layout))[:, 0]
    assert torch.allclose(packed.view(2, 11), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"lacks tensor 'model\.norm\.weight'"),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(31)}),
            r"'model\.norm\.weight' .* shape \[31\].* expects \[32\]",
        ),
        (
            lambda t: t.update({"model.nrm.weight": torch.ones(32)}),
            r"'model\.nrm\.weight'.*Did you mean 'model\.norm\.weight'",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(reference_model: Any, change: Any, message: str) -> None:
    folder, _ = reference_model("qwen3")
    module = build_model(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    tensors = dict(stream_tensors(folder))
    change(tensors)
    write_sharded(tensors.items(), folder)
    with pytest.raises(ModelError, match=message):
        load_weights(module, folder)


def test_a_language_model_is_not_loaded_from_a_value_model(reference_model: Any, tmp_path: Path) -> None:
    folder, _ = reference_model("qwen3", tied=True)
    critic = opened(folder, head="value")
    save_model(export_weights(critic), critic.config, tmp_path / "critic")
    module = build_model(tmp_path / "critic", head="causal_lm", dtype=torch.float32, device="cpu")
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_weights(module, tmp_path / "critic")


def test_pickled_weights_are_refused_with_the_way_to_convert(reference_model: Any, tmp_path: Path) -> None:
    folder, reference = reference_model("qwen3")
    module = opened(folder)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(folder / "config.json", pickled)
    torch.save(reference.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*save_pretrained"):
        load_weights(module, pickled)


def test_models_with_their_own_code_need_the_flag(tmp_path: Path) -> None:
    config = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('foreign code ran')")
    with pytest.raises(ModelError, match=r"own Python code.*trust_remote_code = true") as error:
        load_config(tmp_path)
    assert "\n" not in str(error.value)


def test_own_code_runs_with_the_flag(tmp_path: Path, token_ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    config = {
        "model_type": "own_llama",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "own.OwnConfig"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(
        "from transformers import LlamaConfig\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n"
    )
    assert load_config(tmp_path, trust_remote_code=True).model_type == "own_llama"


def test_an_unknown_model_type_gets_a_near_match(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen33", "architectures": ["X"]}))
    with pytest.raises(ModelError, match=r"'qwen33'.*Did you mean 'qwen3'"):
        load_config(tmp_path)


def test_building_from_a_config_draws_weights_by_the_seed(reference_model: Any) -> None:
    _, reference = reference_model("qwen3")
    built = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        built.append(build_model(reference.config, head="causal_lm", dtype=torch.float32, device="cpu"))
    first, same, other = (dict(export_weights(module)) for module in built)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


def test_saving_records_the_stored_type(reference_model: Any, tmp_path: Path) -> None:
    folder, _ = reference_model("qwen2")
    module = opened(folder, dtype=torch.bfloat16)
    save_model(export_weights(module), module.config, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("head", ["causal_lm", "value"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_on_meta_only_parameters_have_no_storage(reference_model: Any, model_type: str, head: Any) -> None:
    """Buffers that no file holds, such as rotary frequencies, could not be restored."""
    folder, _ = reference_model(model_type, tied=True)
    module = build_model(folder, head=head, dtype=torch.float32, device="meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    buffers = dict(module.named_buffers())
    expected = dict(build_model(folder, head=head, dtype=torch.float32, device="cpu").named_buffers())
    assert expected and buffers.keys() == expected.keys()
    assert all(torch.equal(buffers[name], buffer) for name, buffer in expected.items())
    if head == "causal_lm":
        language_model: Any = module
        assert language_model.lm_head.weight is language_model.model.embed_tokens.weight
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"
