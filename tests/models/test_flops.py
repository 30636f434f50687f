from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlkit.models.flops import MatmulShape, causal_pairs, matmul_shape_of, read_matmul_shape
from rlkit.models.safetensors_io import TensorInfo

CONFIG = {
    "architectures": ["ExampleForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 2,
    "vocab_size": 10,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def tensors(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name.replace("__", "."): TensorInfo("model", "F32", shape, 0) for name, shape in shapes.items()}


def test_a_forward_pass_by_hand() -> None:
    shape = MatmulShape(layer_weights=100, head_weights=20, attention_width=8)
    # 2 * 100 * 5 tokens + 2 * 20 * 3 predictions + 4 * 8 * (1 + 2 + 3 + 1 + 2 pairs)
    assert shape.causal_forward_flops([3, 2], predictions=3) == 1000 + 120 + 288
    assert shape.causal_update_flops([3, 2], predictions=3) == 3 * 1408


def test_frozen_weights_need_no_gradient_but_attention_does() -> None:
    shape = MatmulShape(layer_weights=100, head_weights=20, attention_width=8, weights_are_frozen=True)
    assert shape.causal_update_flops([3, 2], predictions=3) == 2 * (1000 + 120) + 3 * 288


def test_a_causal_sequence_has_half_of_the_pairs_and_sequences_do_not_see_each_other() -> None:
    assert causal_pairs([4]) == 10
    assert causal_pairs([4, 4]) == 20
    assert causal_pairs([0]) == 0
    assert causal_pairs([8192]) / 8192**2 == pytest.approx(0.5, rel=1e-3)


def test_weights_by_hand_without_embeddings_norms_and_biases_and_with_a_tied_head() -> None:
    found = matmul_shape_of(
        CONFIG,
        tensors(
            model__embed_tokens__weight=(10, 8),
            model__layers__0__self_attn__q_proj__weight=(8, 8),
            model__layers__0__self_attn__q_proj__bias=(8,),
            model__layers__0__mlp__up_proj__weight=(16, 8),
            model__norm__weight=(8,),
            model__visual__blocks__0__attn__qkv__weight=(24, 8),
        ),
        "example",
    )
    assert found == MatmulShape(layer_weights=8 * 8 + 16 * 8, head_weights=80, attention_width=2 * 4 * 2)


def test_only_the_chosen_experts_count_and_shared_ones_count_whole() -> None:
    config = {**CONFIG, "n_routed_experts": 4, "num_experts_per_tok": 1}
    experts = {f"model__layers__0__mlp__experts__{n}__up_proj__weight": (16, 8) for n in range(4)}
    shared = {"model__layers__0__mlp__shared_experts__up_proj__weight": (16, 8)}
    assert matmul_shape_of(config, tensors(**experts, **shared), "example").layer_weights == 2 * 16 * 8


def test_latent_attention_has_two_head_widths() -> None:
    config = {**CONFIG, "qk_nope_head_dim": 6, "qk_rope_head_dim": 2, "v_head_dim": 4}
    assert matmul_shape_of(config, tensors(a=(8, 8)), "example").attention_width == 2 * 4 * (8 + 4) / 2


@pytest.mark.parametrize(
    ("model_type", "tied", "changes"),
    [
        ("qwen3", True, {}),
        ("llama", False, {}),
        ("qwen2_moe", False, {"num_experts": 4, "num_experts_per_tok": 2, "architectures": ["Qwen2MoeForCausalLM"]}),
    ],
)
def test_the_count_is_what_torch_counts(reference_model: Any, model_type: str, tied: bool, changes: Any) -> None:
    sizes = {"num_hidden_layers": 3, "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128}
    folder, model = reference_model(model_type, tied=tied, **sizes, **changes)
    shape = read_matmul_shape(folder)
    # torch counts the whole square of an attention, the half that a causal mask hides included.
    model.set_attn_implementation("eager")
    if changes:
        model.set_experts_implementation("eager")
    token_ids = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(0))
    expected = shape.forward_flops(tokens=48, predictions=48, pairs=2 * 24**2)
    with FlopCounterMode(display=False) as forward:
        logits = model(token_ids).logits
    assert forward.get_total_flops() == pytest.approx(expected, rel=0.01)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    assert forward.get_total_flops() + backward.get_total_flops() == pytest.approx(3 * expected, rel=0.01)


def test_a_critic_has_one_output_instead_of_a_vocabulary(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3", tied=False)
    policy, critic = read_matmul_shape(folder), read_matmul_shape(folder, value_head=True)
    assert (policy.head_weights, critic.head_weights) == (40 * 32, 32)
    assert policy.layer_weights == critic.layer_weights
