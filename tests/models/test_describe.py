from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rlkit.models.create import create_model
from rlkit.models.describe import describe_model


def test_everything_about_a_new_model_is_told(tmp_path: Path) -> None:
    shape = create_model(tmp_path / "m", family="llama", tokenizer="char", alphabet="0123456789")
    description = describe_model(tmp_path / "m")
    assert description.family == "llama"
    assert description.shape == shape
    assert description.files == {"model.safetensors": (tmp_path / "m" / "model.safetensors").stat().st_size}
    facts = description.tokenizer
    assert facts is not None
    assert (facts.num_tokens, facts.eos_token, facts.pad_token, facts.has_chat_template) == (
        16,
        "<|end|>",
        "<|pad|>",
        True,
    )


def test_a_model_without_tokenizer_and_family_is_described_too(reference_model: Any) -> None:
    folder, _ = reference_model("gpt2", n_embd=32, n_layer=1, n_head=4, architectures=["GPT2LMHeadModel"])
    for file in folder.glob("tokenizer*"):
        shutil.rmtree(file)
    description = describe_model(folder)
    assert description.family == ""
    assert description.tokenizer is None
    assert description.shape.num_parameters > 0
