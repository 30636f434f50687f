from __future__ import annotations

import pytest
import torch
from rlkit_llama.family import llama
from rlkit_llama.plugin import llama as spec
from transformers import AutoModelForCausalLM

# Parameters of the published checkpoints, tied embeddings once (Hugging Face model pages).
PUBLISHED = {"3.2-1b": 1_235_814_400, "3.2-3b": 3_212_749_824, "3.1-8b": 8_030_261_248}


@pytest.mark.parametrize("size", list(PUBLISHED))
def test_published_sizes_have_the_published_number_of_parameters(size: str) -> None:
    config = llama().create_config(size, {})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[size]
    assert config.rope_parameters["rope_type"] == "llama3"
    assert config.max_position_embeddings == 131_072


def test_new_models_have_an_architecture_that_the_spec_lists() -> None:
    assert llama().create_config("tiny", {}).architectures[0] in spec.architectures


def test_every_published_size_is_checked() -> None:
    assert set(llama().presets()) - {"tiny", "small"} == set(PUBLISHED)
