"""No rank ever holds the whole model: neither while it is built and loaded, nor afterwards, nor while it is saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlkit.models.create import create_model
from rlkit.models.safetensors_io import stream_tensors
from rlkit.testing.rank_cases import BuiltModel, RankCase, measure_build
from rlkit.testing.ranks import run_on_ranks

pytestmark = pytest.mark.slow

PRELOAD = ("rlkit_fsdp.backend", "peft")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 layers: several of them, gathered at a time, are still a small part of the whole."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 32, "num_attention_heads": 4}
    config = Qwen3Config(vocab_size=256, num_key_value_heads=4, head_dim=32, tie_word_embeddings=False, **sizes)
    # Small files: safetensors maps one at a time into memory, and a mapping counts as if all of it were read.
    Qwen3ForCausalLM(config).save_pretrained(folder, max_shard_size="1MB")
    return folder


def build(model: Path, shares: tuple[tuple[int, ...], ...]) -> list[BuiltModel]:
    case = RankCase("supervised", model, shares)
    return run_on_ranks(measure_build, case, ranks=len(shares), preload=PRELOAD)


def test_each_of_two_ranks_keeps_half_and_never_has_much_more(model):
    (alone,) = build(model, ((),))
    whole = sum(tensor.numel() for tensor in alone.weights.values()) * 4
    assert alone.parameter_bytes == whole
    assert alone.peak_bytes >= whole  # what is measured is the model
    for rank in build(model, ((), ())):
        assert rank.parameter_bytes == pytest.approx(whole / 2, rel=0.01)
        assert rank.peak_bytes < 0.75 * whole
        assert rank.largest_gathered_bytes <= 0.1 * whole
        for name, weight in alone.weights.items():
            assert torch.equal(rank.weights[name], weight), name


def test_a_checkpoint_costs_the_leading_rank_its_own_part_and_no_whole_model(tmp_path):
    """The leader copies its half of the parameters for the files of its own; the export passes through it."""
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 32}
    model, checkpoint = tmp_path / "model", tmp_path / "checkpoint"
    create_model(model, family="qwen3", size="tiny", tokenizer="byte", overrides=sizes)
    script = Path(__file__).with_name("save_on_ranks.py")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            script,
            model,
            checkpoint,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    saved = dict(stream_tensors(checkpoint / "model"))
    whole = sum(tensor.numel() * tensor.element_size() for tensor in saved.values())
    assert whole > 80e6
    assert 0.45 * whole < json.loads(line)["peak_bytes"] < 0.75 * whole
    for name, tensor in stream_tensors(model):
        assert torch.equal(saved[name], tensor.to(saved[name])), name
