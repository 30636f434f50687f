"""LoRA from project file to run folder: PPO and SFT learn, leave an adapter that peft opens, and resume with the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.slow

LORA = ("--set", "actor.lora.rank=4", "--set", "actor.lora.alpha=16", "--set", "actor.lr=0.02")
PPO = (
    "train",
    "ppo",
    "ppo.toml",
    "--reward",
    "graded.py:score",
    "--set",
    "rollout.prompts_per_step=16",
    "--set",
    "algorithm.mini_batch_samples=32",
    "--set",
    "algorithm.kl_loss=0.01",
    "--set",
    "trainer.checkpoint_every=2",
    "--set",
    "critic.lora.rank=2",
    "--set",
    "algorithm.advantage=gae",
    *LORA,
)


def steps(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"] for line in lines if line["event"] == "step"]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 12)[None]).logits


def check_adapter(run: Path, base: Path) -> None:
    """The adapter on the base model is the merged model, and not the base model."""
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    merged = logits(AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32))
    opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), run / "adapter")
    torch.testing.assert_close(logits(opened), merged, atol=1e-5, rtol=1e-5)
    assert float((merged - plain).abs().max()) > 1e-3


def same_bits(left: Path, right: Path) -> None:
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        mine, other = load_file(left / name), load_file(right / name)
        assert mine.keys() == other.keys()
        for key, tensor in mine.items():
            assert torch.equal(tensor, other[key]), f"{name}: {key}"


def test_ppo_learns_with_the_base_as_reference_and_resumes_with_the_same_bits(quickstart, rlkit_command):
    runs = quickstart / "runs"
    rlkit_command(quickstart, *PPO, "--steps", "6", "--name", "lora-whole")
    whole = steps(runs / "lora-whole")
    assert whole[0]["actor/kl_to_reference"] == pytest.approx(0, abs=1e-6)
    assert whole[-1]["actor/kl_to_reference"] > 1e-3
    assert whole[-1]["reward/mean"] > whole[0]["reward/mean"]
    check_adapter(runs / "lora-whole", runs / "sft" / "model")

    rlkit_command(quickstart, *PPO, "--steps", "2", "--name", "lora-halves")
    rlkit_command(quickstart, *PPO, "--steps", "6", "--name", "lora-halves")
    same_bits(runs / "lora-whole", runs / "lora-halves")
    state = runs / "lora-whole" / "checkpoints" / "step_000006" / "state"
    assert not list(state.rglob("weights"))
    assert (state / "critic" / "adapter").is_dir()


def test_sft_with_adapters_learns_and_leaves_one(quickstart, rlkit_command):
    # From the model that has begun to learn: the frozen embeddings of an untrained one are noise.
    start = quickstart / "runs" / "sft" / "model"
    more = ("--model", str(start), "--set", "sft.lora.rank=8", "--set", "sft.lr=0.01", "--set", "sft.epochs=20")
    rlkit_command(quickstart, "sft", "sft.toml", *more, "--name", "sft-lora")
    run = quickstart / "runs" / "sft-lora"
    losses = [step["sft/loss"] for step in steps(run)]
    assert losses[-1] < 0.9 * losses[0]
    check_adapter(run, start)
