"""What megatron-core has to know of an architecture: its settings, and where its checkpoint's tensors lie.

A model family outside this distribution supplies the recipe of its architectures as
`rlkit.protocols.family.SuppliesMegatronRecipe` says (see docs/megatron.md); without it the recipes below answer. They are here
and not with rlkit's own families: those know nothing of megatron-core, and some of these architectures are everybody's
(`auto`). Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlkit.errors import ModelError
from rlkit.protocols.family import ModelFamily, SuppliesMegatronRecipe
from rlkit_megatron.places import Place, rows_of_halves, rows_of_heads, whole


@dataclass(frozen=True)
class Recipe:
    """settings: from a transformers config, keyword arguments of megatron-core's TransformerConfig beyond the sizes that
    all decoders have; raises `ModelError` for what megatron-core cannot do.
    places: from a parameter's name within a layer (or outside of all) and the transformers config, the Hugging Face
    tensors in it, without the layer's prefix; None for a name that the recipe does not know.
    """

    settings: Callable[[Any], Mapping[str, Any]]
    places: Callable[[str, Any], tuple[Place, ...] | None]
    layer_prefix: str = "model.layers.{layer}."
    outside: Mapping[str, str] = field(
        default_factory=lambda: {
            "embedding.word_embeddings.weight": "model.embed_tokens.weight",
            "decoder.final_layernorm.weight": "model.norm.weight",
            "output_layer.weight": "lm_head.weight",
            "score.weight": "score.weight",
        }
    )

    def places_of(self, name: str, config: Any) -> tuple[Place, ...]:
        """Of a parameter under megatron-core's name with the layer's number in the whole model. Raises `ModelError`."""
        if name in self.outside:
            other = self.outside[name]
            if name == "output_layer.weight" and config.tie_word_embeddings:
                other = self.outside["embedding.word_embeddings.weight"]
            if name in ("embedding.word_embeddings.weight", "output_layer.weight"):
                return (whole(other, 0, is_vocabulary=True),)
            return (whole(other, None),)
        match = re.fullmatch(r"decoder\.layers\.(\d+)\.(.+)", name)
        found = None if match is None else self.places(match[2], config)
        if match is None or found is None:
            raise ModelError(f"no rule says where megatron-core's parameter '{name}' comes from")
        prefix = self.layer_prefix.format(layer=match[1])
        return tuple(Place(prefix + place.name, place.cut_dim, place.view) for place in found)


def find_recipe(family: ModelFamily, architecture: str) -> Recipe:
    """The family's own recipe, or one of this distribution. Raises `ModelError` when there is none."""
    recipe = family.megatron_recipe(architecture) if isinstance(family, SuppliesMegatronRecipe) else None
    if recipe is not None and not isinstance(recipe, Recipe):
        raise ModelError(
            f"megatron_recipe of the family gave {type(recipe).__name__}, expected rlkit_megatron.recipes.Recipe"
        )
    recipe = recipe or known_recipe(architecture)
    if recipe is None:
        raise ModelError(
            f"actor backend 'megatron' has no recipe for architecture '{architecture}'; it has those of "
            f'{", ".join(RECIPES)}. Choose backend = "fsdp", or a family with the method megatron_recipe'
        )
    return recipe


def known_recipe(architecture: str) -> Recipe | None:
    """Of this distribution. A value model's file names the classifier of the same decoder."""
    return RECIPES.get(architecture.replace("ForSequenceClassification", "ForCausalLM"))


def attention_places(name: str, config: Any) -> tuple[Place, ...] | None:
    """Of a decoder layer's attention and norms, under megatron-core's own names and under Transformer Engine's, where a
    norm belongs to the linear layer behind it."""
    heads: dict[str, Any] = {
        "queries_per_group": config.num_attention_heads // config.num_key_value_heads,
        "head_dim": head_dim(config),
    }
    if name in ("self_attention.linear_qkv.weight", "self_attention.linear_qkv.bias"):
        kind = name.rpartition(".")[2]
        return rows_of_heads(tuple(f"self_attn.{side}_proj.{kind}" for side in "qkv"), **heads)  # type: ignore[arg-type]
    names = {
        "self_attention.linear_proj.weight": ("self_attn.o_proj.weight", 1),
        "self_attention.q_layernorm.weight": ("self_attn.q_norm.weight", None),
        "self_attention.k_layernorm.weight": ("self_attn.k_norm.weight", None),
        "input_layernorm.weight": ("input_layernorm.weight", None),
        "self_attention.linear_qkv.layer_norm_weight": ("input_layernorm.weight", None),
        "pre_mlp_layernorm.weight": ("post_attention_layernorm.weight", None),
        "mlp.linear_fc1.layer_norm_weight": ("post_attention_layernorm.weight", None),
    }
    return (whole(*names[name]),) if name in names else None


def dense_places(name: str, config: Any) -> tuple[Place, ...] | None:
    """Of a decoder layer with a gated MLP."""
    if name == "mlp.linear_fc1.weight":
        return rows_of_halves(("mlp.gate_proj.weight", "mlp.up_proj.weight"))
    if name == "mlp.linear_fc2.weight":
        return (whole("mlp.down_proj.weight", 1),)
    return attention_places(name, config)


def mixture_places(
    *, router: str, experts: str, gate: str, up: str, down: str
) -> Callable[[str, Any], tuple[Place, ...] | None]:
    """Of a decoder layer with a mixture of gated MLPs; the arguments are the Hugging Face names of its parts."""

    def places(name: str, config: Any) -> tuple[Place, ...] | None:
        if name == "mlp.router.weight":
            return (whole(f"{router}.weight", None),)
        match = re.fullmatch(r"mlp\.experts\.local_experts\.(\d+)\.linear_fc([12])\.weight", name)
        if match is None:
            return attention_places(name, config)
        expert = f"{experts}.{match[1]}"
        if match[2] == "1":
            return rows_of_halves((f"{expert}.{gate}.weight", f"{expert}.{up}.weight"))
        return (whole(f"{expert}.{down}.weight", 1),)

    return places


def head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _llama_settings(config: Any) -> Mapping[str, Any]:
    _refuse_biases(config, "attention_bias", "mlp_bias")
    return {"ffn_hidden_size": config.intermediate_size}


def _qwen2_settings(config: Any) -> Mapping[str, Any]:
    return {"ffn_hidden_size": config.intermediate_size, "add_qkv_bias": True, **_window(config)}


def _qwen3_settings(config: Any) -> Mapping[str, Any]:
    _refuse_biases(config, "attention_bias")
    return {"ffn_hidden_size": config.intermediate_size, "qk_layernorm": True, **_window(config)}


def _mistral_settings(config: Any) -> Mapping[str, Any]:
    return {"ffn_hidden_size": config.intermediate_size, **_window(config)}


def _mixtral_settings(config: Any) -> Mapping[str, Any]:
    return {
        "ffn_hidden_size": config.intermediate_size,
        **_mixture(config.num_local_experts, config.num_experts_per_tok, config.intermediate_size, renormalised=True),
        **_window(config),
    }


def _qwen3_moe_settings(config: Any) -> Mapping[str, Any]:
    _refuse_biases(config, "attention_bias")
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        raise ModelError(
            f"mlp_only_layers = {config.mlp_only_layers} and decoder_sparse_step = {config.decoder_sparse_step}: actor "
            "backend 'megatron' takes only models with experts in every layer"
        )
    return {
        "ffn_hidden_size": config.moe_intermediate_size,
        "qk_layernorm": True,
        **_mixture(
            config.num_experts,
            config.num_experts_per_tok,
            config.moe_intermediate_size,
            renormalised=bool(config.norm_topk_prob),
        ),
        **_window(config),
    }


def _mixture(experts: int, chosen: int, width: int, *, renormalised: bool) -> dict[str, Any]:
    return {
        "num_moe_experts": experts,
        "moe_router_topk": chosen,
        "moe_ffn_hidden_size": width,
        # A softmax over the chosen ones alone is the renormalised part of the softmax over all.
        "moe_router_pre_softmax": not renormalised,
        "moe_router_load_balancing_type": "none",
        "moe_aux_loss_coeff": 0.0,
        "moe_router_dtype": "fp32",
    }


def _window(config: Any) -> dict[str, Any]:
    """A token sees itself and the `sliding_window - 1` before it."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or not getattr(config, "use_sliding_window", True) or kinds == {"full_attention"}:
        return {}
    if len(kinds) > 1:
        raise ModelError(
            f"sliding_window = {window} in some layers only (layer_types) is not supported by actor backend 'megatron'"
        )
    return {"window_size": (int(window) - 1, 0)}


def _refuse_biases(config: Any, *keys: str) -> None:
    for key in keys:
        if getattr(config, key, False):
            raise ModelError(f"{key} = true: actor backend 'megatron' has no such biases for {config.model_type}")


_MIXTRAL = mixture_places(
    router="block_sparse_moe.gate", experts="block_sparse_moe.experts", gate="w1", up="w3", down="w2"
)
_QWEN3_MOE = mixture_places(router="mlp.gate", experts="mlp.experts", gate="gate_proj", up="up_proj", down="down_proj")

RECIPES: Mapping[str, Recipe] = {
    "LlamaForCausalLM": Recipe(_llama_settings, dense_places),
    "Qwen2ForCausalLM": Recipe(_qwen2_settings, dense_places),
    "Qwen3ForCausalLM": Recipe(_qwen3_settings, dense_places),
    "MistralForCausalLM": Recipe(_mistral_settings, dense_places),
    "MixtralForCausalLM": Recipe(_mixtral_settings, _MIXTRAL),
    "Qwen3MoeForCausalLM": Recipe(_qwen3_moe_settings, _QWEN3_MOE),
}
