"""Settings of critic and reference that contradict each other are refused in one line."""

from __future__ import annotations

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


def load(*assignments: str):
    return load_config("ppo", assignments=assignments, environ={}).config


def refusal(*assignments: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*assignments)
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestReference:
    def test_it_is_frozen_by_default(self):
        assert not load("algorithm.kl_loss=0.1").reference.moves

    @pytest.mark.parametrize("key", ["refresh_every=5", "ema_decay=0.9"])
    def test_it_may_follow_the_actor_in_one_of_two_ways(self, key):
        assert load("algorithm.kl_loss=0.1", f"reference.{key}").reference.moves

    def test_both_ways_at_once_are_refused(self):
        message = refusal("algorithm.kl_loss=0.1", "reference.refresh_every=5", "reference.ema_decay=0.9")
        assert message.startswith("reference.refresh_every = 5 and reference.ema_decay = 0.9 are two ways")

    @pytest.mark.parametrize("key", ["refresh_every=5", "ema_decay=0.9"])
    def test_moving_what_nobody_reads_is_refused(self, key):
        name, value = key.split("=")
        message = refusal(f"reference.{key}")
        assert message.startswith(f"reference.{name} = {value} moves a reference that nothing reads")
        assert "algorithm.kl_loss" in message

    @pytest.mark.parametrize("value", ["1.0", "-0.1"])
    def test_a_decay_that_never_moves_is_refused(self, value):
        assert "reference.ema_decay" in refusal("algorithm.kl_loss=0.1", f"reference.ema_decay={value}")


class TestSharedTrunk:
    def test_the_head_s_own_settings_are_taken(self):
        section = load(
            "critic.shared_trunk=true",
            "critic.loss_weight=0.5",
            "critic.lr=1e-3",
            "critic.value_clip=0.4",
            "critic.warmup_iterations=3",
        ).critic
        assert (section.loss_weight, section.lr, section.value_clip, section.warmup_iterations) == (0.5, 1e-3, 0.4, 3)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("path", "somewhere"),
            ("schedule", "cosine"),
            ("warmup_steps", "3"),
            ("min_lr_ratio", "0.1"),
            ("weight_decay", "0.1"),
            ("betas", "[0.9, 0.95]"),
            ("eps", "1e-6"),
            ("max_grad_norm", "0.5"),
            ("micro_batch_tokens", "4096"),
            ("gradient_checkpointing", "true"),
            ("lora.rank", "4"),
        ],
    )
    def test_what_only_a_model_of_its_own_would_read_is_refused(self, key, value):
        message = refusal("critic.shared_trunk=true", f"critic.{key}={value}")
        assert f"critic.{key.partition('.')[0]} cannot be set with critic.shared_trunk = true" in message

    def test_every_key_is_either_taken_or_refused(self):
        from rlkit.config.ppo_sections import SHARED_TRUNK_KEYS, CriticSection

        refused = {"path", "schedule", "warmup_steps", "min_lr_ratio", "weight_decay", "betas", "eps"}
        refused |= {"max_grad_norm", "micro_batch_tokens", "gradient_checkpointing", "lora"}
        assert set(CriticSection.model_fields) == refused | SHARED_TRUNK_KEYS

    def test_a_loss_weight_without_a_shared_trunk_is_refused(self):
        assert "critic.shared_trunk = true only" in refusal("critic.loss_weight=0.5")


@pytest.mark.parametrize(
    ("assignments", "line"),
    [
        (["rollout.tools=['add']"], "rollout.tools = 'add': write file.py:name or package.module:name"),
        (["rollout.environment=maze"], "rollout.environment = 'maze': write file.py:name"),
        (["rollout.max_turns=3"], "rollout.max_turns = 3 has a meaning with tools or environment only"),
        (
            ["rollout.environment=a.py:B", "rollout.max_tool_tokens=3"],
            "rollout.max_tool_tokens = 3 has a meaning with tools",
        ),
        (
            ["rollout.environment_options={size = 3}"],
            "rollout.environment_options = {'size': 3} has a meaning with environment",
        ),
        (["rollout.tools=['a.py:b']", "rollout.max_turn_tokens=256"], "rollout.max_turn_tokens = 256 leaves no room"),
    ],
)
def test_conversation_keys_that_would_not_be_read_are_refused(assignments, line):
    with pytest.raises(ConfigError) as caught:
        load_config("ppo", assignments=assignments, environ={})
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_tools_and_environments_are_looked_for_beside_the_project_file(tmp_path):
    (tmp_path / "game.py").write_text("")
    (tmp_path / "ppo.toml").write_text('[rollout]\ntools = "game.py:add"\nenvironment = "game.py:Game"\n')
    rollout = load_config("ppo", tmp_path / "ppo.toml", environ={}).config.rollout
    assert (rollout.tools, rollout.environment) == ((f"{tmp_path}/game.py:add",), f"{tmp_path}/game.py:Game")
