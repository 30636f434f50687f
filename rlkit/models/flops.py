"""Floating-point operations of a decoder-only transformer on packed rows, counted from its shape: no torch, no weights.

    forward = 2 M T + 2 H T_out + 4 W P        update = 3 forward

    M  weights of the layers that each of the T tokens is multiplied with; of routed experts the chosen ones only
    H  weights of the head, for the T_out tokens whose prediction is asked; embeddings are looked up, not multiplied
    W  layers * heads * head_dim; P pairs of a query and a key: L (L + 1) / 2 for a causal sequence of L tokens

Kaplan et al. 2020, arXiv:2001.08361, table 1; model FLOPs utilisation as in Chowdhery et al. 2022, PaLM,
arXiv:2204.02311, appendix B, which counts all L^2 pairs where this counts those that a causal model needs. A backward
pass costs two forward passes, of layers whose weights are frozen one. Work done twice (gradient checkpointing) and left out (a sliding window) is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.models.safetensors_io import TensorInfo, read_headers
from rlkit.models.shape import part_of, read_config_json, shape_of

_ROUTED = (".experts.",)
_NOT_ON_TEXT = ("visual", "vision")


@dataclass(frozen=True)
class MatmulShape:
    """What one token costs.

    layer_weights    weights of all layers that a token is multiplied with (M)
    head_weights     weights of the head, per prediction (H)
    attention_width  layers * heads * mean of the query-key and the value dimension of a head (W)
    weights_are_frozen  only adapters learn: a backward pass has no gradients of the weights to compute
    """

    layer_weights: float
    head_weights: int
    attention_width: float
    weights_are_frozen: bool = False

    def forward_flops(self, *, tokens: int, predictions: int, pairs: int) -> float:
        """Of one forward pass: T `tokens`, T_out `predictions`, P query-key `pairs`."""
        return 2 * (self.layer_weights * tokens + self.head_weights * predictions) + 4 * self.attention_width * pairs

    def causal_forward_flops(self, lengths: Iterable[int], *, predictions: int) -> float:
        """Of causal sequences with `lengths` tokens each, packed."""
        lengths = list(lengths)
        return self.forward_flops(tokens=sum(lengths), predictions=predictions, pairs=causal_pairs(lengths))

    def causal_update_flops(self, lengths: Iterable[int], *, predictions: int) -> float:
        """Of the same sequences' forward and backward pass: each product's two factors have a gradient of its cost."""
        lengths = list(lengths)
        forward = self.causal_forward_flops(lengths, predictions=predictions)
        if not self.weights_are_frozen:
            return 3 * forward
        return 3 * forward - self.forward_flops(tokens=sum(lengths), predictions=predictions, pairs=0)


def causal_pairs(lengths: Iterable[int]) -> int:
    """Pairs of a query and a key that it may see, over sequences that do not see one another."""
    return sum(length * (length + 1) // 2 for length in lengths)


def read_matmul_shape(folder: Path, *, value_head: bool = False) -> MatmulShape:
    """Of the model in `folder`; with `value_head` as a critic. Raises `ModelError` for a damaged folder."""
    return matmul_shape_of(read_config_json(folder), read_headers(folder), str(folder), value_head=value_head)


def matmul_shape_of(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], where: str, *, value_head: bool = False
) -> MatmulShape:
    """From a config.json's content and the tensors that the files list; `where` is named in errors."""
    shape = shape_of(config, where, tensors=tensors)
    text = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    active = _active_experts(text)
    layers = 0.0
    for name, info in tensors.items():
        if _is_layer_matrix(name, info):
            layers += info.num_elements * (active if any(part in name for part in _ROUTED) else 1.0)
    return MatmulShape(
        layer_weights=layers,
        head_weights=shape.hidden_size * (1 if value_head else shape.vocab_size),
        attention_width=shape.num_layers * shape.num_heads * _head_width(text, shape.head_dim),
    )


def _is_layer_matrix(name: str, info: TensorInfo) -> bool:
    return (
        len(info.shape) > 1
        and part_of(name) not in ("embeddings", "head")
        and not any(word in name for word in _NOT_ON_TEXT)
    )


def _active_experts(config: Mapping[str, Any]) -> float:
    """Share of the routed experts that a token goes through."""
    experts = next(
        (config[key] for key in ("n_routed_experts", "num_experts", "num_local_experts") if config.get(key)), 0
    )
    chosen = config.get("num_experts_per_tok") or experts
    return float(chosen / experts) if experts else 1.0


def _head_width(config: Mapping[str, Any], head_dim: int) -> float:
    """Multi-head-latent attention compares queries and keys of one width and adds up values of another."""
    if not config.get("qk_nope_head_dim"):
        return float(head_dim)
    keys = int(config["qk_nope_head_dim"]) + int(config.get("qk_rope_head_dim") or 0)
    return (keys + int(config.get("v_head_dim") or keys)) / 2
