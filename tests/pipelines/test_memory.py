"""The memory estimate, part by part, against numbers worked out by hand and against torch's own sizes."""

from __future__ import annotations

import pytest
import torch

from rlkit.models.packed import PackedLayout, packed_forward, use_packed_attention
from rlkit.models.shape import read_shape, shape_of
from rlkit.pipelines.memory import (
    EngineLimits,
    activation_bytes,
    adapter_size,
    cast_bytes,
    forward_bytes,
    frozen_bytes,
    gradient_bytes,
    kv_cache_bytes,
    logit_bytes,
    rollout_bytes,
    trained_bytes,
    value_model_parameters,
    write_bytes,
)
from rlkit.testing.tiny_model import tiny_model

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
QWEN3_06B = shape_of(CONFIG, "Qwen3-0.6B")


def test_weights_gradients_and_optimizer_by_hand():
    parameters = QWEN3_06B.num_parameters
    # 596.0 M is what the published model has, its tiny query and key norms aside.
    assert parameters == pytest.approx(596_049_920, rel=1e-4)
    assert trained_bytes(QWEN3_06B) == {"parameters": 4 * parameters, "optimizer": 8 * parameters}
    assert gradient_bytes(QWEN3_06B) == 4 * parameters
    assert frozen_bytes(QWEN3_06B, "bfloat16") == 2 * parameters


def test_adapters_by_hand():
    adapter = adapter_size(QWEN3_06B, 16, ("all_linear",), "bfloat16")
    # q and o: 1024 + 2048; k and v: 1024 + 1024; gate, up and down: 1024 + 3072; 28 layers
    assert adapter.parameters == 16 * 28 * (2 * 3072 + 2 * 2048 + 3 * 4096) == 10_092_544
    frozen = frozen_bytes(QWEN3_06B, "bfloat16")
    assert trained_bytes(QWEN3_06B, adapter=adapter) == {
        "parameters": frozen + 4 * adapter.parameters,
        "optimizer": 8 * adapter.parameters,
    }
    assert gradient_bytes(QWEN3_06B, adapter=adapter) == 4 * adapter.parameters
    # Nothing frozen is copied for mixed precision: it already has the type.
    assert cast_bytes(QWEN3_06B, "bfloat16", adapter=adapter) == 2 * adapter.parameters
    assert cast_bytes(QWEN3_06B, "float32", adapter=adapter) == 0
    assert adapter_size(QWEN3_06B, 0, ("all_linear",), "bfloat16") is None


def test_named_targets_count_in_every_layer_or_in_one():
    assert adapter_size(QWEN3_06B, 1, ("q_proj",), "float32").parameters == 28 * 3072
    assert adapter_size(QWEN3_06B, 1, ("layers.3.self_attn.q_proj",), "float32").parameters == 3072
    assert adapter_size(QWEN3_06B, 1, ("something",), "float32").parameters == 28 * 4096


def test_an_adapter_s_parameters_are_those_that_peft_makes():
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModelForCausalLM

    model = inject_adapter_in_model(
        LoraConfig(r=3, target_modules="all-linear"), AutoModelForCausalLM.from_pretrained(tiny_model())
    )
    made = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert adapter_size(read_shape(tiny_model()), 3, ("all_linear",), "float32").parameters == made


def test_the_kv_cache_by_hand():
    # 28 layers x 2 x 8 heads x 128 x 2 bytes = 114,688 bytes a token
    assert kv_cache_bytes(QWEN3_06B, 1000, "bfloat16") == 114_688_000


def test_logits_never_grow_beyond_a_chunk():
    assert logit_bytes(QWEN3_06B, 100_000) == logit_bytes(QWEN3_06B, 1_000) < 250 * 2**20
    assert logit_bytes(QWEN3_06B, 10) == 3 * 4 * 151936 * 10


def test_checkpointing_keeps_one_layer_and_the_inputs():
    plain = activation_bytes(QWEN3_06B, 8192, "bfloat16", checkpointing=False)
    saved = activation_bytes(QWEN3_06B, 8192, "bfloat16", checkpointing=True)
    # The inputs are the residual stream, which mixed precision leaves in float32.
    assert saved == plain // 28 + 28 * 8192 * 1024 * 4


def test_an_untied_value_model_loses_its_head():
    untied = shape_of({**CONFIG, "tie_word_embeddings": False}, "untied")
    assert value_model_parameters(untied) == untied.num_parameters - 151936 * 1024 + 1024
    assert value_model_parameters(QWEN3_06B) == QWEN3_06B.num_parameters + 1024


def test_parameters_are_those_that_torch_holds():
    from transformers import AutoModelForCausalLM

    shape = read_shape(tiny_model())
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    assert frozen_bytes(shape, "float32") == sum(p.numel() * p.element_size() for p in model.parameters())


def test_mixed_precision_keeps_copies_of_the_weights():
    assert cast_bytes(QWEN3_06B, "float32") == 0
    assert cast_bytes(QWEN3_06B, "bfloat16") == 2 * QWEN3_06B.num_parameters


def test_rollouts_by_hand():
    limits = EngineLimits(cache_tokens=8_000, prefill_tokens=1_500)
    parts = rollout_bytes(QWEN3_06B, answers=100, prompt_tokens=500, longest=800, dtype="bfloat16", limits=limits)
    # 10 answers of 800 tokens fill the cache; of their prompts 1,500 tokens go in at once, and each wants one logit row.
    assert parts["kv cache"] == 1.25 * 8_000 * 114_688
    widest = max(2 * 3072, 3 * 16 * 128) + 3 * 1024
    assert parts["prefill"] == 1_500 * widest * 2 + logit_bytes(QWEN3_06B, 10)


def test_an_engine_that_names_no_limits_takes_all_answers_at_once():
    parts = rollout_bytes(
        QWEN3_06B, answers=100, prompt_tokens=500, longest=800, dtype="bfloat16", limits=EngineLimits()
    )
    assert parts["kv cache"] == 1.25 * 80_000 * 114_688


def test_an_answer_longer_than_the_cache_still_gets_room():
    parts = rollout_bytes(
        QWEN3_06B, answers=4, prompt_tokens=500, longest=800, dtype="bfloat16", limits=EngineLimits(100, 100)
    )
    assert parts["kv cache"] == 1.25 * 800 * 114_688


def test_a_cache_of_fixed_size_is_counted_whole_and_bounds_the_rows_that_enter():
    limits = EngineLimits(prefill_tokens=1_500, cache_bytes=2_000 * 114_688)
    parts = rollout_bytes(QWEN3_06B, answers=100, prompt_tokens=500, longest=800, dtype="bfloat16", limits=limits)
    assert parts["kv cache"] == 2_000 * 114_688
    assert parts["prefill"] == forward_bytes(QWEN3_06B, 1_000, "bfloat16", logit_tokens=2)  # two rows of 800 tokens fit


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lengths", [[64] * 16, [100, 30, 70, 200, 624]])
@pytest.mark.parametrize(
    ("hidden", "mlp", "heads", "kv_heads", "head_dim"), [(256, 768, 8, 4, 32), (128, 256, 4, 4, 32)]
)
def test_activations_are_what_autograd_keeps(dtype, lengths, hidden, mlp, heads, kv_heads, head_dim):
    """Counts the bytes of everything that the backward pass of a packed forward pass saves, each storage once."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        architectures=["Qwen3ForCausalLM"],
        vocab_size=100,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).train()
    use_packed_attention(model)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    mixed = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16")
    with mixed, torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        token_ids = torch.randint(100, (sum(lengths),))
        output = packed_forward(model.get_decoder(), token_ids, PackedLayout.of(lengths, "cpu"))
    shape = shape_of(config.to_dict(), "test")
    # The decoder alone: no head, and embeddings are looked up without a copy.
    casts = cast_bytes(shape, dtype) * (1 - 100 * hidden / shape.num_parameters)
    estimate = activation_bytes(shape, sum(lengths), dtype, checkpointing=False) + casts
    assert output.requires_grad
    assert estimate == pytest.approx(sum(kept.values()), rel=0.1)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**20, "3.0 MiB"), (2**34, "16.0 GiB")]
)
def test_bytes_are_written_for_people(number, text):
    assert write_bytes(number) == text
