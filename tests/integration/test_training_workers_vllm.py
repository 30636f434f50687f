"""An actor that is spread over workers, and a vLLM replica that answers with its weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.pipelines.ppo import run_ppo
from rlkit.testing.tiny_model import tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


def test_every_update_of_the_workers_reaches_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    rows = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(8)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reward.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")
    keys = {
        "model.path": str(tiny_model()), "data.train": [str(tmp_path / "prompts.jsonl")], "data.max_prompt_tokens": 32,
        "reward.functions": [f"{tmp_path / 'reward.py'}:score"], "rollout.max_response_tokens": 8,
        "rollout.prompts_per_step": 4, "algorithm.advantage": "grpo", "trainer.steps": 3, "actor.lr": 1e-2,
        "rollout.engine": "vllm", "rollout.placement": "standalone", "placement.workers": 2,
        "run.output": str(tmp_path), "run.name": "spread", "run.threads": 1,
    }  # fmt: skip
    run_ppo(load_config("ppo", None, flags=keys, environ={}))
    entries = [json.loads(line) for line in (tmp_path / "spread/metrics.jsonl").read_text().splitlines()]
    steps = [entry["metrics"] for entry in entries if entry["event"] == "step"]
    assert [step["rollout/policy_version"] for step in steps] == [0, 1, 2]
    assert min(step["actor/grad_norm"] for step in steps) > 0
    # At this rate a step moves the log-probs by far more than engine and trainer differ about the same weights.
    assert max(step["rollout/log_prob_difference_max"] for step in steps) < 1e-3
