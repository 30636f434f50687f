from __future__ import annotations

import pytest
import torch
from rlkit_qwen import plugin
from rlkit_qwen.family import qwen2, qwen3
from transformers import AutoModelForCausalLM

# Parameters of the published checkpoints, tied embeddings once (Hugging Face model pages and technical reports).
PUBLISHED = {
    ("qwen2", "0.5b"): 494_032_768,
    ("qwen2", "1.5b"): 1_543_714_304,
    ("qwen2", "3b"): 3_085_938_688,
    ("qwen2", "7b"): 7_615_616_512,
    ("qwen2", "14b"): 14_770_033_664,
    ("qwen3", "0.6b"): 596_049_920,
    ("qwen3", "1.7b"): 1_720_574_976,
    ("qwen3", "4b"): 4_022_468_096,
    ("qwen3", "8b"): 8_190_735_360,
    ("qwen3", "14b"): 14_768_307_200,
    ("qwen3", "32b"): 32_762_123_264,
}
FAMILIES = {"qwen2": qwen2, "qwen3": qwen3}


@pytest.mark.parametrize(("family", "size"), list(PUBLISHED))
def test_published_sizes_have_the_published_number_of_parameters(family: str, size: str) -> None:
    config = FAMILIES[family]().create_config(size, {})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[family, size]
    assert config.rope_parameters["rope_theta"] == 1_000_000.0


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_new_models_have_an_architecture_that_the_spec_lists(name: str) -> None:
    config = FAMILIES[name]().create_config("tiny", {})
    assert config.architectures[0] in getattr(plugin, name).architectures
    assert config.model_type == name


def test_every_published_size_is_checked() -> None:
    for name, family in FAMILIES.items():
        assert set(family().presets()) - {"tiny", "small"} == {size for known, size in PUBLISHED if known == name}
