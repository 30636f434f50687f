from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.models.shape import read_shape

QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_equal_those_of_the_model(reference_model: Any, tied: bool) -> None:
    folder, model = reference_model("qwen2", tied=tied)
    shape = read_shape(folder)
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sum(shape.parameters_by_part.values()) == shape.num_parameters
    assert ("head" in shape.parameters_by_part) is not tied
    assert "other" not in shape.parameters_by_part
    assert (shape.architecture, shape.num_layers, shape.num_heads, shape.num_kv_heads) == ("Qwen2ForCausalLM", 2, 4, 2)
    assert (shape.head_dim, shape.vocab_size, shape.context_length, shape.dtype) == (8, 40, 64, "float32")


def test_without_weights_the_config_gives_a_close_estimate(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_8B))
    shape = read_shape(tmp_path)
    assert shape.num_parameters == pytest.approx(8_190_735_360, rel=1e-4)  # as published
    assert shape.dtype == "bfloat16"
    assert shape.kv_elements_per_token == 2 * 36 * 8 * 128


@pytest.mark.parametrize(
    "key", ["architectures", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"]
)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in QWEN3_8B.items() if k != key}))
    with pytest.raises(ModelError, match=key):
        read_shape(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_config_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_shape(tmp_path)


def test_reading_a_shape_imports_neither_torch_nor_transformers(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3")
    code = (
        "import sys; from pathlib import Path; from rlkit.models.shape import read_shape; "
        f"read_shape(Path({str(folder)!r})); sys.exit(bool({{'torch', 'transformers', 'numpy'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
