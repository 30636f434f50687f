"""Small models of real architectures, made with transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


def small_config(model_type: str, *, tied: bool, **changes: Any) -> Any:
    from transformers import CONFIG_MAPPING

    sizes = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": tied,
        "architectures": [ARCHITECTURES.get(model_type, "")],
    }
    if model_type != "qwen2":
        sizes["head_dim"] = 8
    return CONFIG_MAPPING[model_type](**{**sizes, **changes})


@pytest.fixture
def reference_model(tmp_path: Path) -> Any:
    """Function: a folder written by transformers itself, with every tensor random (no zero biases), and its model."""

    def make(model_type: str, *, tied: bool = False, name: str = "reference", **changes: Any) -> tuple[Path, Any]:
        from transformers import AutoModelForCausalLM

        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(small_config(model_type, tied=tied, **changes)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        folder = tmp_path / name
        model.save_pretrained(folder)
        return folder, model

    return make


@pytest.fixture
def token_ids() -> torch.Tensor:
    return torch.randint(0, 40, (2, 11), generator=torch.Generator().manual_seed(0))
