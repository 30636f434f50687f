from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlkit.testing.tiny_model import tiny_model, write_tiny_model


def test_the_seed_decides_the_weights(tmp_path):
    first, same, other = (write_tiny_model(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    weights = [load_file(folder / "model.safetensors") for folder in (first, same, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert any(not torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())


def test_making_it_leaves_the_random_numbers_of_the_process_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    write_tiny_model(tmp_path / "model")
    assert torch.equal(torch.rand(3), expected)


def test_its_answers_are_far_from_uniform():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    with torch.no_grad():
        log_probs = torch.log_softmax(model(torch.tensor([[3, 5, 7, 9]])).logits, dim=-1)
    assert float(log_probs.std()) > 0.3


@pytest.mark.slow
def test_it_is_gone_when_the_process_ends():
    source = "from rlkit.testing.tiny_model import tiny_model; print(tiny_model())"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert folder.name == "model"
    assert not folder.parent.exists()
