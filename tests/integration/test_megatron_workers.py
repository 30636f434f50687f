"""PPO with actor.backend = megatron on Ray: the runs of fsdp in one process, whatever the layout, killed or not."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killing import HELD, HOLD, held, kill_after
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("megatron") is None, reason="megatron-core is not installed"),
]

STEPS = 6
PPO = (
    *(sys.executable, "-m", "rlkit", "train", "ppo", "ppo.toml", "--reward", "graded.py:score"),
    *("--set", f"trainer.steps={STEPS}", "--set", "trainer.checkpoint_every=1", "--set", "rollout.prompts_per_step=8"),
    *("--set", "algorithm.mini_batch_samples=16", "--set", "algorithm.kl_loss=0.05"),
    # AdamW divides by the root of the second moment plus eps: with a larger eps than usual, rounding stays rounding.
    *("--set", "actor.eps=1e-4", "--set", "critic.eps=1e-4"),
    *HELD,
)
LEARNING = ("actor/loss", "critic/loss", "reward/mean", "actor/kl_to_reference")


def megatron(workers: int, **options: int) -> tuple[str, ...]:
    settings = ["actor.backend=megatron", *(f"actor.options.{name}={value}" for name, value in options.items())]
    return ("--workers", str(workers), *(part for text in settings for part in ("--set", text)))


LAYOUT = megatron(4, tensor_parallel=2, pipeline_parallel=2)


def start(project: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PPO, *arguments, "--name", name],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain", "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(project: Path, name: str, *arguments: str) -> Path:
    process = start(project, name, *arguments)
    output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output
    return project / "runs" / name


def start_and_kill(project: Path, name: str) -> None:
    """A run in four processes, until the checkpoint of step 3."""
    with held(project, 4):
        kill_after(start(project, name, *LAYOUT), project / "runs" / name, 3)


def steps_of(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["metrics"] for line in lines if line["event"] == "step"]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module", autouse=True)
def hook(quickstart: Path) -> None:
    (quickstart / "hold.py").write_text(HOLD)


@pytest.fixture(scope="module")
def through(quickstart: Path) -> Path:
    """A run over two stages of two slices each, from beginning to end."""
    return run(quickstart, "megatron-through", *LAYOUT)


def test_ppo_learns_as_with_fsdp_in_one_process(quickstart: Path, through: Path) -> None:
    expected = run(quickstart, "megatron-fsdp")
    theirs, ours = steps_of(expected), steps_of(through)
    assert len(theirs) == len(ours) == STEPS
    for step, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        for name in LEARNING:
            assert our[name] == pytest.approx(their[name], rel=1e-3, abs=1e-5), (name, step)
    # The engine answers with the weights that were trained last.
    assert max(step["rollout/log_prob_difference_max"] for step in ours) < 1e-3
    token_ids = torch.arange(3, 15)[None]
    logits = [
        AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)(token_ids).logits
        for folder in (expected, through)
    ]
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-4)


def test_a_run_that_was_killed_ends_with_the_same_bits(quickstart: Path, through: Path) -> None:
    name = "megatron-killed"
    start_and_kill(quickstart, name)
    killed = run(quickstart, name, *LAYOUT)
    described = json.loads((killed / "run.json").read_text())
    assert described["status"] == "finished" and len(described["resumed"]) == 1
    exact = weights_of(through)
    assert exact.keys() == weights_of(killed).keys()
    assert all(torch.equal(tensor, exact[name]) for name, tensor in weights_of(killed).items())


def test_a_run_goes_on_in_another_layout(quickstart: Path, through: Path) -> None:
    name = "megatron-moved"
    start_and_kill(quickstart, name)
    moved = run(quickstart, name, *megatron(2, tensor_parallel=1, pipeline_parallel=1))
    exact = weights_of(through)
    for key, tensor in weights_of(moved).items():
        torch.testing.assert_close(tensor, exact[key], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_answers_with_the_weights_of_the_stages(quickstart: Path) -> None:
    vllm = ("--set", "rollout.engine=vllm", "--set", "rollout.placement=standalone", "--set", "actor.lr=1e-2")
    folder = run(quickstart, "megatron-vllm", *LAYOUT, *vllm, "--set", "trainer.steps=3")
    steps = steps_of(folder)
    assert [step["rollout/policy_version"] for step in steps] == [0, 2, 4]  # two mini-batches a step
    assert min(step["actor/grad_norm"] for step in steps) > 0
    # At this rate a step moves the log-probs by far more than engine and trainer differ about the same weights.
    assert max(step["rollout/log_prob_difference_max"] for step in steps) < 1e-3


def test_a_layout_that_does_not_fit_is_refused_before_anything_starts(quickstart: Path) -> None:
    process = start(quickstart, "megatron-refused", *megatron(3, tensor_parallel=2))
    output = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "takes 2 processes for each copy of the model, but there are 3" in output
    assert "Traceback" not in output
    assert not (quickstart / "runs" / "megatron-refused").exists()
