"""`placement.offload_idle_models` with the real backend: the same numbers, through checkpoints too, and less on the GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from repeats import repeats
from rlkit_fsdp.roles import HeldModel
from safetensors.torch import load_file

from rlkit.config.load import load_config
from rlkit.pipelines import ppo
from rlkit.testing.tiny_model import tiny_model

AWAY = "placement.offload_idle_models=true"
Run = Callable[..., tuple[list[dict[str, float]], dict[str, torch.Tensor]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Function: metrics that repeat, step by step, and the finished model, of a PPO run with critic and reference."""

    def train(name: str, *assignments: str, steps: int = 3, device: str = "cpu") -> Any:
        rows = [{"question": "1" * (n % 5 + 1) + f"+{n}=", "answer": str(n + 1)} for n in range(12)]
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "reward.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")
        keys = {
            "model.path": str(tiny_model()), "data.train": [str(tmp_path / "prompts.jsonl")],
            "data.max_prompt_tokens": 32, "reward.functions": [f"{tmp_path / 'reward.py'}:score"],
            "rollout.max_response_tokens": 8, "rollout.prompts_per_step": 4, "algorithm.mini_batch_samples": 8,
            "algorithm.kl_loss": 0.05, "trainer.steps": steps, "trainer.checkpoint_every": 1,
            "run.output": str(tmp_path), "run.name": name, "run.threads": 1, "run.device": device,
        }  # fmt: skip
        ppo.run_ppo(load_config("ppo", None, assignments=list(assignments), flags=keys, environ={}))
        entries = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        steps_done = [entry["metrics"] for entry in entries if entry["event"] == "step"]
        metrics = [{key: value for key, value in step.items() if repeats(key)} for step in steps_done]
        return metrics, load_file(tmp_path / name / "model" / "model.safetensors")

    return train


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the models of the backend are told; one that computes while it is away fails the test, on a CPU as well."""
    told: list[str] = []
    build = HeldModel.__init__

    def built(model: Any, *arguments: Any, **keywords: Any) -> None:
        build(model, *arguments, **keywords)
        model.is_away = False

        def check(*_: Any) -> None:
            assert not model.is_away, f"{type(model).__name__} computes while it is away"

        embedding = next(module for module in model.module.modules() if isinstance(module, torch.nn.Embedding))
        embedding.register_forward_pre_hook(check)

    def move(what: str) -> Callable[[Any], None]:
        def moved(model: Any) -> None:
            model.is_away = what == "offload"
            told.append(f"{type(model).__name__}.{what}")

        return moved

    monkeypatch.setattr(HeldModel, "__init__", built)
    for what in ("onload", "offload"):
        monkeypatch.setattr(HeldModel, what, move(what))
    return told


def assert_equal(found: Any, expected: Any) -> None:
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(tensor, expected[1][name]) for name, tensor in found[1].items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("assignments", "kinds"),
    [
        ((), {"FSDPActor", "FSDPCritic", "FSDPReference"}),
        (("reference.ema_decay=0.5",), {"FSDPActor", "FSDPCritic", "FSDPMovingReference"}),
        (("actor.lora.rank=4",), {"FSDPActor", "FSDPCritic"}),
        (("critic.shared_trunk=true", "critic.warmup_iterations=1"), {"FSDPActor", "FSDPReference"}),
    ],
    ids=["critic and reference", "moving reference", "adapters", "shared trunk"],
)
def test_the_numbers_are_those_of_models_that_stay(
    run: Run, away: list[str], assignments: tuple[str, ...], kinds: set[str]
) -> None:
    staying = run("staying", *assignments)
    assert away == []
    assert_equal(run("moving", *assignments, AWAY), staying)
    assert set(away) == {f"{kind}.{what}" for kind in kinds for what in ("onload", "offload")}


@pytest.mark.slow
def test_a_run_goes_on_from_a_checkpoint_of_models_that_were_away(run: Run, away: list[str]) -> None:
    staying = run("staying", "reference.ema_decay=0.5", steps=4)
    run("moving", "reference.ema_decay=0.5", AWAY, steps=2)
    assert_equal(run("moving", "reference.ema_decay=0.5", AWAY, steps=4), staying)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("assignments", "bytes_a_parameter"),
    [((), 2 * 12), (("critic.shared_trunk=true",), 12), (("actor.lora.rank=4",), 4)],
    ids=["critic", "shared trunk", "adapters"],
)
def test_on_a_gpu_the_engine_answers_with_less_memory_in_use(
    run: Run, monkeypatch: pytest.MonkeyPatch, assignments: tuple[str, ...], bytes_a_parameter: int
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    peaks: list[int] = []
    build = ppo.build_rollout_engine

    def measured(*arguments: Any) -> Any:
        engine = build(*arguments)
        generate = engine.generate

        def note(*asked: Any) -> Any:
            torch.cuda.reset_peak_memory_stats()
            answers = generate(*asked)
            peaks.append(torch.cuda.max_memory_allocated())
            return answers

        monkeypatch.setattr(engine, "generate", note)
        return engine

    monkeypatch.setattr(ppo, "build_rollout_engine", measured)
    staying, _ = run("staying", *assignments, device="cuda")
    before, peaks[:] = max(peaks), []
    moving, _ = run("moving", *assignments, AWAY, device="cuda")
    parameters = sum(tensor.numel() for tensor in load_file(tiny_model() / "model.safetensors").values())
    # Weights and moments of what is trained; of an adapter, whose moments are small, the frozen weights.
    assert before - max(peaks) > 0.9 * bytes_a_parameter * parameters
    assert moving[-1]["actor/loss"] == pytest.approx(staying[-1]["actor/loss"], rel=1e-2, abs=1e-4)
