"""The Qwen families: transformers' implementations, with the sizes that were published."""

from __future__ import annotations

from typing import Any

from rlkit.models.family import TransformersFamily
from rlkit.protocols import ModelFamily


def qwen2() -> ModelFamily:
    return TransformersFamily("qwen2", QWEN2_SIZES)


def qwen3() -> ModelFamily:
    return TransformersFamily("qwen3", QWEN3_SIZES)


def _size(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_window_layers": layers,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        **more,
    }


_QWEN2 = {"vocab_size": 151_936, "max_position_embeddings": 32_768, "tie_word_embeddings": True}
_QWEN3 = {"vocab_size": 151_936, "max_position_embeddings": 40_960, "tie_word_embeddings": True, "head_dim": 128}
_SMALL = {"vocab_size": 512, "max_position_embeddings": 2048, "tie_word_embeddings": True}
_UNTIED = {"tie_word_embeddings": False}

QWEN2_SIZES: dict[str, dict[str, Any]] = {
    "tiny": _size(64, 192, 2, 2, 1, **_SMALL),
    "small": _size(256, 768, 6, 8, 4, **_SMALL),
    "0.5b": _size(896, 4864, 24, 14, 2, **_QWEN2),
    "1.5b": _size(1536, 8960, 28, 12, 2, **_QWEN2),
    "3b": _size(2048, 11_008, 36, 16, 2, **_QWEN2),
    "7b": _size(3584, 18_944, 28, 28, 4, **_QWEN2 | _UNTIED | {"vocab_size": 152_064}),
    "14b": _size(5120, 13_824, 48, 40, 8, **_QWEN2 | _UNTIED | {"vocab_size": 152_064, "rms_norm_eps": 1e-5}),
}
"""Qwen2.5 as published (instruction-tuned context length), and two sizes for experiments on a CPU, with heads as wide as
vLLM needs them there (32)."""

QWEN3_SIZES: dict[str, dict[str, Any]] = {
    "tiny": _size(64, 192, 2, 4, 2, head_dim=32, **_SMALL),
    "small": _size(256, 768, 6, 8, 4, head_dim=32, **_SMALL),
    "0.6b": _size(1024, 3072, 28, 16, 8, **_QWEN3),
    "1.7b": _size(2048, 6144, 28, 16, 8, **_QWEN3),
    "4b": _size(2560, 9728, 36, 32, 8, **_QWEN3),
    "8b": _size(4096, 12_288, 36, 32, 8, **_QWEN3 | _UNTIED),
    "14b": _size(5120, 17_408, 40, 40, 8, **_QWEN3 | _UNTIED),
    "32b": _size(5120, 25_600, 64, 64, 8, **_QWEN3 | _UNTIED),
}
"""Qwen3 as published (post-trained), and two sizes for experiments on a CPU, as above."""
