"""The family: which transformers model it stands for, and the sizes that `rlkit models create` offers.

`TransformersFamily` does everything by transformers' own implementation: building, loading sharded safetensors without
unpickling, exporting and saving. For a model that transformers does not implement, write a class with the methods of
`rlkit.protocols.ModelFamily` instead; `rlkit.models.causal` has its pieces as functions.
"""

from __future__ import annotations

from typing import Any

from rlkit.models.family import TransformersFamily
from rlkit.protocols import ModelFamily

_OLMO2 = {
    "vocab_size": 100_352,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "tie_word_embeddings": False,
}


def _size(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **_OLMO2,
        **more,
    }


SIZES: dict[str, dict[str, Any]] = {
    "tiny": _size(64, 192, 2, 4, 2, vocab_size=512, max_position_embeddings=2048),
    "1b": _size(2048, 8192, 16, 16, 16),
    "7b": _size(4096, 11_008, 32, 32, 32),
}
"""One size for tests and experiments, and the published ones. Keys are those of transformers' Olmo2Config."""


def family() -> ModelFamily:
    """What the plugin's spec names: called without arguments."""
    return TransformersFamily("olmo2", SIZES)
