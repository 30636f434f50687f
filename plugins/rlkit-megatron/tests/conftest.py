"""Small models of all architectures, roles on them, and the process group that megatron-core leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rlkit.models.registry import find_family
from rlkit.protocols.actor import ModelRole, OptimizerSettings
from rlkit.testing.tiny_model import tiny_model

SIZES: dict[str, Any] = {
    "vocab_size": 41,  # not a multiple of anything
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
        "mlp_only_layers": [],
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
}


@pytest.fixture(scope="module", autouse=True)
def _no_group_is_left() -> Iterator[None]:
    """A backend that is alone makes a group of one; the next file in this process may want one of its own, or none."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function: the folder of a small model of this type, made once for the same sizes."""
    made: dict[str, Path] = {}

    def make(model_type: str, **sizes: Any) -> Path:
        key = f"{model_type} {sorted(sizes.items())}"
        if key not in made:
            config = CONFIG_MAPPING[model_type](**{**SIZES, **EXPERTS.get(model_type, {}), **sizes})
            folder = tmp_path_factory.mktemp(model_type)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(config)
                for parameter in model.parameters():
                    if parameter.ndim == 1:  # norms and biases that are no constants
                        parameter.data += 0.1 * torch.randn_like(parameter)
                model.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def role() -> Callable[..., ModelRole]:
    """Function: a trained role on the tiny model, changed in what is named."""

    def make(**changes: Any) -> ModelRole:
        folder = changes.pop("path", None) or tiny_model()
        plain: dict[str, Any] = {
            "path": folder,
            "family": find_family(folder),
            "dtype": "float32",
            "device": "cpu",
            "micro_batch_tokens": 64,
            "gradient_checkpointing": False,
            "trust_remote_code": False,
            "seed": 0,
            "optimizer": OptimizerSettings(1e-3, 0.01, (0.9, 0.99), 1e-2, 1.0, "constant", 0, 10, 0.0),
        }
        return ModelRole(**{**plain, **changes})

    return make
