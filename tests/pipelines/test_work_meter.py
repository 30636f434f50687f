from __future__ import annotations

from pathlib import Path

from rlkit.config.load import load_config
from rlkit.config.runs import PPOConfig
from rlkit.models.flops import read_matmul_shape
from rlkit.pipelines.training_place import TrainingPlace
from rlkit.pipelines.work_meter import build_ppo_meter, build_sft_meter
from rlkit.testing.tiny_model import tiny_model


def config(kind: str, folder: Path, *assignments: str):
    path = folder / f"{kind}.toml"
    path.write_text(f"[model]\npath = '{tiny_model()}'\n")
    return load_config(kind, path, assignments=["run.peak_tflops=2.0", *assignments], environ={}).config


def meter(config):
    build = build_ppo_meter if isinstance(config, PPOConfig) else build_sft_meter
    return build(config, tiny_model(), TrainingPlace(config, device="cpu").peak())


def test_every_role_of_a_run_costs_and_no_other(tmp_path):
    shape = read_matmul_shape(tiny_model())
    critic = read_matmul_shape(tiny_model(), value_head=True)
    for assignments, expected in (
        (("algorithm.advantage=gae",), (shape, None, critic)),
        (("algorithm.advantage=grpo",), (shape, None, None)),
        (("algorithm.advantage=grpo", "algorithm.kl_loss=0.1"), (shape, shape, None)),
    ):
        found = meter(config("ppo", tmp_path, *assignments))
        assert (found.policy, found.reference, found.critic) == expected


def test_adapters_leave_the_weights_frozen_and_a_shared_trunk_adds_a_head(tmp_path):
    settings = ("algorithm.advantage=gae", "critic.shared_trunk=true", "actor.lora.rank=2")
    found = meter(config("ppo", tmp_path, *settings))
    assert found.policy.weights_are_frozen
    assert found.trunk_is_shared
    assert (found.critic.layer_weights, found.critic.head_weights) == (0, 32)
    sft = meter(config("sft", tmp_path, "sft.lora.rank=2"))
    assert sft.policy.weights_are_frozen
    assert not meter(config("sft", tmp_path)).policy.weights_are_frozen


def test_the_peak_of_the_config_wins_over_a_measurement(tmp_path):
    assert meter(config("sft", tmp_path)).peak.flops == 2e12
    measured = meter(config("sft", tmp_path, "run.peak_tflops=0")).peak
    assert measured.measured
