"""What of an architecture megatron-core has no place for: said from config.json, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlkit.errors import ModelError
from rlkit.models.registry import find_family
from rlkit_megatron.recipes import find_recipe, known_recipe

ROPE_TYPES = ("default", "linear", "llama3")
"""Whose frequencies do not depend on the length of a row, and whose attention is not scaled."""

UNSAID: Mapping[str, Any] = {
    "hidden_act": "silu",
    "mlp_only_layers": (),
    "decoder_sparse_step": 1,
    "num_experts_per_tok": 1,
    "use_sliding_window": True,
}
"""What transformers takes where config.json says nothing, as far as it decides whether a model can be built."""


def check_architecture(model: Mapping[str, Any], *, family: str) -> None:
    """Raises `ModelError` for a model, described by its config.json, that cannot be built; `family` as in
    `rlkit.models.registry.find_family`. Imports no torch, unless for the recipe of another distribution.

    What comes with code of its own is looked at when it is built.
    """
    architectures = model.get("architectures")
    if not architectures or model.get("auto_map"):
        return
    recipe = known_recipe(architectures[0])
    if recipe is None:
        find_recipe(find_family(architectures[0], family=family), architectures[0])
        return
    config = _Described(model)
    check_activation(config)
    rope_parameters(config)
    recipe.settings(config)


class _Described:
    """What config.json says, by the names of a transformers config, which knows more."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        rope = model.get("rope_parameters") or model.get("rope_scaling") or {}
        kind = rope.get("rope_type") or rope.get("type") or "default"
        self.__dict__.update({**UNSAID, **model, "rope_parameters": {**rope, "rope_type": kind}})

    def __getattr__(self, name: str) -> Any:
        return None  # only what is there is looked at


def check_activation(config: Any) -> None:
    """Raises `ModelError` when the MLPs of a transformers config are not gated by silu."""
    if config.hidden_act not in ("silu", "swish"):
        raise ModelError(f"hidden_act = {config.hidden_act}: actor backend 'megatron' takes gated silu MLPs only")


def rope_parameters(config: Any) -> Mapping[str, Any]:
    """Of the rotary embeddings of a transformers config. Raises `ModelError` for a kind that megatron-core has no place
    for."""
    found: Mapping[str, Any] = config.rope_parameters
    kind = found.get("rope_type", "default")
    if kind not in ROPE_TYPES:
        raise ModelError(
            f"rope_type = {kind} is not supported by actor backend 'megatron', which takes {', '.join(ROPE_TYPES)}; "
            'choose backend = "fsdp"'
        )
    return found
