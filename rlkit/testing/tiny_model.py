"""A real model small enough for tests: two Qwen3 layers with a tokenizer of single characters."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

ALPHABET = "0123456789+-=?# abcdefgh"
WEIGHT_SCALE = 0.3
"""Standard deviation of the weights: far from uniform answers, so that a mistake shows."""


@cache
def tiny_model() -> Path:
    """The model's folder, made at the first call and removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="rlkit-tiny-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_tiny_model(folder / "model")


def write_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write the model to `folder` and return it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from rlkit.models.tokenizer_making import make_tokenizer

    tokenizer = make_tokenizer("char", alphabet=ALPHABET, context_length=128)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the least that vLLM computes attention with on a CPU
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=WEIGHT_SCALE,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
