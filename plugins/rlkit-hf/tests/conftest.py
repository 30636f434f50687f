"""A small model with a tokenizer, and engines on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_hf.engine import HFEngine
from rlkit_hf.options import HFEngineOptions
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rlkit.models.family import TransformersFamily
from rlkit.models.tokenizer import load_tokenizer
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import Prompt, PromptBatch

ALPHABET = "0123456789+-= abcdefgh"


def _write_model(folder: Path, model_type: str = "qwen3", **changes: Any) -> Path:
    """A folder with a small model whose distribution is far from uniform, and a char tokenizer."""
    tokenizer = make_tokenizer("char", alphabet=ALPHABET, context_length=128)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**{**sizes, **changes}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    return _write_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("model") / "qwen3", head_dim=8)


@pytest.fixture
def engine_on() -> Iterator[Callable[..., HFEngine]]:
    """Function: an engine on a model folder; closed at the end."""
    engines: list[HFEngine] = []

    def make(folder: Path, **options: Any) -> HFEngine:
        model = EngineModel(folder, TransformersFamily("", {}), load_tokenizer(folder), "float32", "cpu", False, 0)
        engines.append(HFEngine(HFEngineOptions(**options), model=model))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def prompts() -> PromptBatch:
    """Twelve prompts of 1 to 19 tokens, in no order of length."""
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 19, 8, 8, 3, 14, 2, 11, 5, 17, 8]
    token_ids = tuple(tuple(torch.randint(5, 28, (length,), generator=generator).tolist()) for length in lengths)
    return PromptBatch(tuple(Prompt(row_id=100 + row) for row in range(len(lengths))), token_ids)
