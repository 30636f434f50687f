"""The Llama family: transformers' implementation, with the sizes that were published."""

from __future__ import annotations

from typing import Any

from rlkit.models.family import TransformersFamily
from rlkit.protocols import ModelFamily


def llama() -> ModelFamily:
    return TransformersFamily("llama", SIZES)


def _size(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "rms_norm_eps": 1e-5,
        **more,
    }


def _llama3(scaling_factor: float, *, tied: bool) -> dict[str, Any]:
    """What the Llama 3.1 and 3.2 sizes share: vocabulary, context, and rotary frequencies stretched from 8,192 tokens."""
    return {
        "vocab_size": 128_256,
        "max_position_embeddings": 131_072,
        "bos_token_id": 128_000,
        "eos_token_id": 128_001,
        "tie_word_embeddings": tied,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": scaling_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }


_SMALL = {"vocab_size": 512, "max_position_embeddings": 2048, "tie_word_embeddings": True}

SIZES: dict[str, dict[str, Any]] = {
    "tiny": _size(64, 192, 2, 2, 1, **_SMALL),
    "small": _size(256, 768, 6, 8, 4, **_SMALL),
    "3.2-1b": _size(2048, 8192, 16, 32, 8, **_llama3(32.0, tied=True)),
    "3.2-3b": _size(3072, 8192, 28, 24, 8, **_llama3(32.0, tied=True)),
    "3.1-8b": _size(4096, 14_336, 32, 32, 8, **_llama3(8.0, tied=False)),
}
"""Llama 3 as published, and two sizes for experiments on a CPU."""
