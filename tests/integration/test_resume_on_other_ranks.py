"""A run that two processes began, one went on with and two finished is that of one process, up to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killing import HELD, HOLD, held, kill_after
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ONE = (sys.executable, "-m", "rlkit")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rlkit")


def with_settings(command: tuple[str, ...], *settings: str) -> tuple[str, ...]:
    return (*command, *HELD, *(part for text in settings for part in ("--set", text)))


# AdamW divides by the root of the second moment plus eps: with a larger eps than usual, rounding stays rounding.
SFT = with_settings(
    ("sft", "sft.toml"), "sft.steps=30", "sft.batch_size=24", "sft.eps=1e-4", "trainer.checkpoint_every=2"
)
PPO = with_settings(
    ("train", "ppo", "ppo.toml", "--reward", "graded.py:score"),
    "trainer.steps=10",
    "trainer.checkpoint_every=1",
    "rollout.prompts_per_step=8",
    "algorithm.mini_batch_samples=16",
    "algorithm.kl_in_reward=0.05",
    "algorithm.kl_target=0.1",
    "actor.eps=1e-4",
    "critic.eps=1e-4",
)


def start(project: Path, launcher: tuple[str, ...], name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*launcher, "--name", name],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output


def losses(run: Path, metric: str) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["metrics"][metric] for line in lines if line["event"] == "step"}


@pytest.mark.parametrize(
    ("one", "two", "steps", "kills", "metrics", "trained"),
    [
        pytest.param((*ONE, *SFT), (*TORCHRUN, *SFT), 30, (4, 12), ("sft/loss",), "model", id="sft with torchrun"),
        pytest.param(
            (*ONE, *PPO),
            (*ONE, *PPO, "--workers", "2"),
            10,
            (2, 5),
            ("actor/loss", "critic/loss", "reward/mean", "reward/kl_coefficient"),
            "actor",
            id="ppo on Ray",
        ),
    ],
)
def test_two_ranks_then_one_then_two_end_where_one_does(
    quickstart: Path,
    one: tuple[str, ...],
    two: tuple[str, ...],
    steps: int,
    kills: tuple[int, int],
    metrics: tuple[str, ...],
    trained: str,
):
    runs = quickstart / "runs"
    (quickstart / "hold.py").write_text(HOLD)
    through, run = runs / f"{trained}-one-rank", runs / f"{trained}-two-one-two"
    finish(start(quickstart, one, through.name))
    for launcher, kill in zip((two, one), kills, strict=True):
        with held(quickstart, kill + 1):
            kill_after(start(quickstart, launcher, run.name), run, kill)
    finish(start(quickstart, two, run.name))
    described = json.loads((run / "run.json").read_text())
    assert described["status"] == "finished" and len(described["resumed"]) == 2
    for metric in metrics:
        found, expected = losses(run, metric), losses(through, metric)
        assert list(found) == list(expected) == list(range(1, steps + 1))
        for step, value in expected.items():
            assert found[step] == pytest.approx(value, rel=1e-5, abs=1e-7), (metric, step)
    weights, exact = (load_file(folder / "model" / "model.safetensors") for folder in (run, through))
    for name, tensor in exact.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)
    newest = run / "checkpoints" / f"step_{steps:06d}" / "state" / trained / "weights"
    assert len(list(newest.iterdir())) == 2  # a part of each rank
