"""A reward model in what --dry-run says: its role, and its bytes where they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.models.causal import build_model, export_weights, save_model
from rlkit.pipelines.memory import Phase
from rlkit.pipelines.plan import Plan, build_plan
from rlkit.pipelines.plan_render import render_plan
from rlkit.pipelines.reward_plan import FORWARD, PARAMETERS, with_reward_models
from rlkit.testing.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    write_tiny_model(folder / "model")
    (folder / "prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 100)
    from transformers import Qwen3Config

    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8
    )
    critic = build_model(config, head="value", dtype=torch.float32, device="cpu")
    save_model(export_weights(critic), config, folder / "scorer")
    return folder


def told(options: dict[str, Any]) -> list[str]:
    return [f"reward.options.reward_model.{key}={json.dumps(value)}" for key, value in options.items()]


def plan(project: Path, kind: str = "ppo", **options: Any) -> Plan:
    options = {"model": str(project / "scorer"), **options}
    assignments = [
        'reward.functions=["reward_model", "length"]',
        *told(options),
        "run.device=cpu",
    ]
    if kind == "ppo":
        assignments += [f"model.path={project / 'model'}", f"data.train={project / 'prompts.jsonl'}"]
    else:
        assignments = [*assignments[:-1], f"evaluation.completions={project / 'prompts.jsonl'}"]
    return build_plan(load_config(kind, assignments=assignments, environ={}))


def parameters(project: Path) -> int:
    from safetensors import safe_open

    with safe_open(project / "scorer" / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - not a dict


def rewards_of(made: Plan) -> dict[str, Any]:
    return {role.plugin: role for role in made.roles if role.role == "reward"}


def test_the_model_is_a_role_and_in_every_phase_and_judging_is_a_phase(project: Path) -> None:
    made = plan(project)
    count = parameters(project)
    role = rewards_of(made)["reward_model"]
    assert (role.place, role.model, role.parameters) == ("cpu", str(project / "scorer"), count)
    assert rewards_of(made)["length"].model == ""
    assert [phase.name for phase in made.phases][:3] == ["rollout", "rewards", "log-probs"]
    assert {phase.parts[PARAMETERS] for phase in made.phases} == {4 * count}
    judging = made.phases[1].parts
    assert judging[FORWARD] == 8192 * 192 * 4  # tokens x (96 + 3 x 32) x bytes
    assert judging["actor optimizer"] == made.phases[0].parts["actor optimizer"]
    assert "kv cache" not in judging
    assert "reward model forward" in render_plan(made)


def test_the_type_the_batch_and_the_replicas_count(project: Path) -> None:
    made = plan(project, dtype="bfloat16", replicas=3, batch_tokens=100)
    assert made.phases[1].parts[PARAMETERS] == 3 * 2 * parameters(project)
    assert made.phases[1].parts[FORWARD] == 3 * 100 * 192 * 2
    assert rewards_of(made)["reward_model"].place == "3 replicas on cpu"


def test_on_a_gpu_an_offloaded_model_is_there_only_to_judge_and_replicas_are_elsewhere(project: Path) -> None:
    on_gpu = replace(
        plan(project), device="cuda:0", phases=(Phase("rollout", {"a": 5, "b": 1}), Phase("update", {"a": 5}))
    )

    def phases(**options: Any) -> tuple[Plan, list[dict[str, int]]]:
        section = load_config(
            "ppo",
            assignments=["reward.functions=reward_model", *told({"model": str(project / "scorer"), **options})],
            environ={},
        ).config.reward
        made = with_reward_models(on_gpu, section)
        return made, [dict(phase.parts) for phase in made.phases]

    count = 4 * parameters(project)
    made, (rollout, judging, update) = phases(offload=True)
    assert (rollout, update) == ({"a": 5, "b": 1}, {"a": 5})
    assert judging == {"a": 5, PARAMETERS: count, FORWARD: 8192 * 192 * 4}
    assert rewards_of(made)["reward_model"].place == "cuda:0"
    made, parts = phases(replicas=2)
    assert parts == [{"a": 5, "b": 1}, {"a": 5}]
    assert "is elsewhere and not in the table: 2 replicas on GPUs of their own" in made.notes[-1]
    made, parts = phases(device="cpu")
    assert parts == [{"a": 5, "b": 1}, {"a": 5}]
    assert rewards_of(made)["reward_model"].place == "cpu"


def test_an_evaluation_has_the_model_too(project: Path) -> None:
    made = plan(project, "eval")
    assert rewards_of(made)["reward_model"].parameters == parameters(project)
    assert [phase.name for phase in made.phases] == ["rewards"]


def test_a_model_that_is_not_here_is_a_note(project: Path) -> None:
    made = plan(project, model=str(project / "nowhere"))
    assert any("nowhere" in note for note in made.notes)
    assert "rewards" not in [phase.name for phase in made.phases]
    assert rewards_of(made)["reward_model"].parameters is None


def test_wrong_options_are_told_with_their_path(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward\.options\.reward_model\.std"):
        plan(project, std=0)
