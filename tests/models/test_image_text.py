from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

from rlkit.models.image_text import is_image_text, takes_images
from rlkit.models.registry import choose_family, find_family
from rlkit.models.safetensors_io import stream_tensors
from rlkit.models.shape import read_shape
from rlkit.testing.tiny_model import tiny_model
from rlkit.testing.tiny_vision_model import write_tiny_vision_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_vision_model(tmp_path_factory.mktemp("vision") / "model")


def test_the_architecture_says_whether_a_model_takes_images(folder):
    assert takes_images(folder)
    assert not takes_images(tiny_model())
    assert is_image_text("Qwen2_5_VLForConditionalGeneration")
    assert not is_image_text("Qwen3ForCausalLM")


def test_the_auto_family_builds_an_image_text_model_whole_and_writes_the_same_names(folder):
    assert choose_family(folder) == "auto"
    family = find_family(folder)
    module = family.build(folder, head="causal_lm", dtype=torch.float32, device="cpu")
    family.load_weights(module, folder)
    expected = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.arange(3, 14)[None]
    with torch.no_grad():
        assert torch.equal(module(input_ids=tokens).logits, expected(input_ids=tokens).logits)
    stored = dict(stream_tensors(folder))
    exported = dict(family.export_weights(module))
    assert exported.keys() == stored.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in stored.items())
    assert read_shape(folder).context_length == 256
