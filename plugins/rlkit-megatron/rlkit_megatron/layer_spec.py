"""What a decoder layer is made of: Transformer Engine's modules where they can be had, else megatron-core's own with two
replaced, on any device.

Of megatron-core's own, the norm refuses sequence parallelism and the attention refuses packed rows.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from torch import Tensor, nn

from rlkit.models.packed import PackedLayout, packed_attention


@dataclass
class PackedRowsParams(PackedSeqParams):  # type: ignore[misc]
    """megatron-core's description of packed rows, with the layout that `PackedAttention` reads."""

    layout: PackedLayout | None = None


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * weight in float32, as Hugging Face's models have it.

    Where tokens are cut over processes its weight's gradient is a sum over them, which the mark asks megatron-core for.
    """

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        device = "cpu" if config.use_cpu_initialization else torch.cuda.current_device()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype, device=device))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: Tensor) -> Tensor:
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(hidden.dtype)


class PackedAttention(nn.Module):
    """Causal attention of each packed row to itself, by torch's `scaled_dot_product_attention`."""

    def __init__(self, config: Any, *_: Any, softmax_scale: float | None = None, **__: Any) -> None:
        super().__init__()
        self.scale = softmax_scale
        window = config.window_size
        self.sliding_window = None if window is None else int(window[0]) + 1

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        *,
        packed_seq_params: PackedRowsParams | None = None,
        **_: Any,
    ) -> Tensor:
        """query [T, H, D], key and value [T, K, D]; returns [T, H * D]."""
        assert packed_seq_params is not None and packed_seq_params.layout is not None
        q, k, v = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
        output = packed_attention(
            self,
            q,
            k,
            v,
            None,
            scaling=self.scale,
            packed_layout=packed_seq_params.layout,
            sliding_window=self.sliding_window,
        )[0]
        return output[0].flatten(1)


def has_transformer_engine() -> bool:
    return importlib.util.find_spec("transformer_engine") is not None


def layer_spec(config: Any, *, part: int | None, transformer_engine: bool) -> TransformerBlockSubmodules:
    """The layers that this process has of the model, or of its `part` where stages are interleaved, and the final norm."""
    experts, qk_norm = config.num_moe_experts, config.qk_layernorm
    layers = get_num_layers_to_build(config, vp_stage=part)
    if transformer_engine:
        from megatron.core.extensions.transformer_engine import TENorm

        spec = get_gpt_layer_with_transformer_engine_spec(num_experts=experts, qk_layernorm=qk_norm)
        return TransformerBlockSubmodules(layer_specs=[spec] * layers, layer_norm=TENorm)
    spec = get_gpt_layer_local_spec(num_experts=experts, qk_layernorm=qk_norm, normalization="RMSNorm")
    attention = spec.submodules.self_attention
    norms = {"q_layernorm": RMSNorm, "k_layernorm": RMSNorm} if qk_norm else {}
    attention = replace(attention, submodules=replace(attention.submodules, core_attention=PackedAttention, **norms))
    submodules = replace(spec.submodules, input_layernorm=RMSNorm, pre_mlp_layernorm=RMSNorm, self_attention=attention)
    return TransformerBlockSubmodules(layer_specs=[replace(spec, submodules=submodules)] * layers, layer_norm=RMSNorm)
