"""Tensors of a checkpoint as views of megatron-core's parameters: numbers that can be followed by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from rlkit_megatron.places import Place, rows_of_halves, rows_of_heads, whole
from rlkit_megatron.recipes import RECIPES, find_recipe
from rlkit_megatron.weights import Held

from rlkit.errors import ModelError

CONFIG = SimpleNamespace(
    num_attention_heads=4, num_key_value_heads=2, head_dim=1, hidden_size=4, tie_word_embeddings=False
)


def rows(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)[:, None]


def test_queries_keys_and_values_lie_by_key_value_head():
    places = rows_of_heads(("q", "k", "v"), queries_per_group=2, head_dim=1)
    parameter = rows(0, 1, 10, 20, 2, 3, 11, 21)
    found = {place.name: place.read(parameter).flatten().tolist() for place in places}
    assert found == {"q": [0, 1, 2, 3], "k": [10, 11], "v": [20, 21]}


def test_gate_lies_before_up():
    gate, up = rows_of_halves(("gate", "up"))
    assert gate.read(rows(1, 2, 3, 4)).flatten().tolist() == [1, 2]
    assert up.read(rows(1, 2, 3, 4)).flatten().tolist() == [3, 4]


@pytest.mark.parametrize("parameter", [torch.randn(8, 3), torch.randn(8)], ids=["weight", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_written_is_read_again_bit_by_bit(parameter, dtype):
    parameter = parameter.to(dtype)
    for places in (
        rows_of_heads(("q", "k", "v"), queries_per_group=2, head_dim=1),
        rows_of_halves(("gate", "up")),
        (whole("x", 0),),
    ):
        copy = torch.full_like(parameter, float("nan"))
        for place in places:
            place.write(copy, place.read(parameter))
        assert torch.equal(copy, parameter)


def test_reading_gives_a_copy():
    parameter = torch.zeros(2, 2)
    whole("x", None).read(parameter).fill_(1)
    assert not parameter.any()


def test_a_piece_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="'x' has shape \\[3, 2\\], expected \\[2, 2\\]"):
        whole("x", 0).write(torch.zeros(2, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("cut_dim", "expected"), [(0, [4, 0]), (1, [0, 6]), (None, [0, 0])])
def test_a_process_has_its_slice_of_the_dimension_that_is_cut(cut_dim, expected):
    held = Held(whole("x", cut_dim), torch.nn.Parameter(torch.zeros(4, 6)), pieces=2, piece=1, is_expert=False)
    assert held.offsets == expected
    shape = [4, 6]
    if cut_dim is not None:
        shape[cut_dim] *= 2
    assert held.shape == tuple(shape)
    assert held.slice_of(torch.zeros(shape)).shape == (4, 6)


@pytest.mark.parametrize(
    ("own", "engine"),
    [
        ("input_layernorm.weight", "self_attention.linear_qkv.layer_norm_weight"),
        ("pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight"),
    ],
)
def test_both_spellings_of_a_norm_are_the_same_tensor(own, engine):
    recipe = RECIPES["LlamaForCausalLM"]
    spelled = [recipe.places_of(f"decoder.layers.3.{name}", CONFIG)[0].name for name in (own, engine)]
    assert spelled[0] == spelled[1] and spelled[0].startswith("model.layers.3.")


def test_a_tied_head_is_the_embedding():
    recipe = RECIPES["Qwen3ForCausalLM"]
    names = [
        recipe.places_of("output_layer.weight", SimpleNamespace(tie_word_embeddings=tied))[0].name
        for tied in (True, False)
    ]
    assert names == ["model.embed_tokens.weight", "lm_head.weight"]


def test_a_parameter_without_a_rule_is_named():
    with pytest.raises(ModelError, match=r"'decoder\.layers\.0\.self_attention\.gate\.weight'"):
        RECIPES["LlamaForCausalLM"].places_of("decoder.layers.0.self_attention.gate.weight", CONFIG)


class Supplying:
    """A family with a recipe of its own."""

    def megatron_recipe(self, architecture: str):
        return RECIPES["LlamaForCausalLM"] if architecture == "OddForCausalLM" else None


def test_a_family_supplies_the_recipe_of_its_architectures():
    assert find_recipe(Supplying(), "OddForCausalLM") is RECIPES["LlamaForCausalLM"]  # type: ignore[arg-type]
    assert find_recipe(Supplying(), "Qwen3ForCausalLM") is RECIPES["Qwen3ForCausalLM"]  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no recipe for architecture 'FooForCausalLM'.*LlamaForCausalLM"):
        find_recipe(Supplying(), "FooForCausalLM")  # type: ignore[arg-type]


def test_experts_are_told_apart_by_their_numbers():
    place: Place = RECIPES["MixtralForCausalLM"].places_of(
        "decoder.layers.1.mlp.experts.local_experts.3.linear_fc2.weight", CONFIG
    )[0]
    assert place.name == "model.layers.1.block_sparse_moe.experts.3.w2.weight"
    assert place.cut_dim == 1
