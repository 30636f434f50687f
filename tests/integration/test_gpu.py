"""The quickstart on a CUDA device, in both precisions."""

from __future__ import annotations

import json
import math

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_training_on_the_gpu_agrees_with_its_own_engine(quickstart, rlkit_command, algorithm, dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    name = f"{algorithm}-{dtype}"
    rlkit_command(
        quickstart,
        *("train", "ppo", f"{algorithm}.toml", "--reward", "graded.py:score", "--name", name, "--steps", "3"),
        *("--device", "cuda", "--set", f"model.dtype={dtype}", "--set", "rollout.prompts_per_step=16"),
        *("--set", "algorithm.mini_batch_samples=32"),
    )
    lines = (quickstart / "runs" / name / "metrics.jsonl").read_text().splitlines()
    steps = [entry["metrics"] for entry in map(json.loads, lines) if entry["event"] == "step"]
    assert len(steps) == 3
    assert all(value is not None and math.isfinite(value) for metrics in steps for value in metrics.values())
    # float32 differs by rounding only; bfloat16's eight bits leave a few hundredths of a nat.
    assert steps[-1]["rollout/log_prob_difference_mean"] < (1e-3 if dtype == "float32" else 0.05)
    assert steps[-1]["memory/device_peak_bytes"] >= steps[-1]["memory/device_bytes"] > 0
    assert 0 < steps[-1]["perf/mfu"] < 1
