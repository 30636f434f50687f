from __future__ import annotations

import pytest

from rlkit.config.load import load_config
from rlkit.config.revise import revise_config
from rlkit.errors import ConfigError

ALLOWED = ("algorithm.", "actor.", "rollout_correction.")


def revise(*assignments: str, settings: tuple[str, ...] = ()):
    values = load_config("ppo", assignments=settings, environ={}).config.model_dump(mode="json")
    return revise_config("ppo", values, assignments, what="run.json", allowed=ALLOWED)


def test_nothing_given_changes_nothing():
    found = revise()
    assert found.recorded == found.revised and found.changed == ()


def test_only_what_differs_is_changed():
    found = revise("actor.lr=1e-6", "algorithm.epochs=3")
    assert found.changed == ("algorithm.epochs",)  # 1e-6 is the default
    assert found.revised.algorithm.epochs == 3 and found.recorded.algorithm.epochs == 1


def test_an_option_leaves_the_others_as_they_were():
    found = revise(
        "algorithm.policy_loss_options.clip_low=0.1", settings=("algorithm.policy_loss_options={clip_high=0.3}",)
    )
    assert found.revised.algorithm.policy_loss_options == {"clip_high": 0.3, "clip_low": 0.1}


def test_another_preset_replaces_what_the_first_one_stood_for():
    found = revise("rollout_correction.preset=geo_rs", settings=("rollout_correction.preset=bypass_pg_seq_tis",))
    correction = found.revised.rollout_correction
    assert (correction.bypass, correction.importance_weights) == (False, "none")
    assert correction.reject and found.revised.algorithm.policy_loss == "ppo_clip"


def test_other_keys_are_refused():
    with pytest.raises(ConfigError, match=r"--set rollout.temperature: .* is recorded; only settings that begin with"):
        revise("rollout.temperature=0.5")


def test_a_config_of_another_version_is_refused_with_the_file():
    with pytest.raises(ConfigError, match=r"run.json is of another version of rlkit: unknown key actor.speed"):
        revise_config("ppo", {"actor": {"speed": 1}}, (), what="run.json", allowed=ALLOWED)
