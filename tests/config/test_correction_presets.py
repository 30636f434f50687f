"""Presets of rollout correction: what they come to, what wins over them, and that both can be seen."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.config.correction_presets import CORRECTION_PRESETS, PresetName
from rlkit.config.keys import leaf_keys
from rlkit.config.load import load_config
from rlkit.config.rollout_correction import RolloutCorrectionSection
from rlkit.config.runs import PPOConfig
from rlkit.errors import ConfigError


def resolved(*assignments: str):
    return load_config("ppo", assignments=assignments, environ={})


def test_every_name_has_a_preset_and_every_preset_sets_keys_that_exist():
    assert list(CORRECTION_PRESETS) == list(get_args(PresetName))
    known = {key for key, _ in leaf_keys(PPOConfig)}
    assert {key for preset in CORRECTION_PRESETS.values() for key in preset} <= known


@pytest.mark.parametrize("name", CORRECTION_PRESETS)
def test_a_preset_is_valid_by_itself_and_comes_to_its_values(name):
    run = resolved(f"rollout_correction.preset={name}")
    for key, value in CORRECTION_PRESETS[name].items():
        section, _, leaf = key.partition(".")
        assert getattr(getattr(run.config, section), leaf) == value
        assert str(run.origins[key]) == f"preset {name}"
    others = {key for key, origin in run.origins.items() if origin.kind != "default"}
    assert others == {*CORRECTION_PRESETS[name], "rollout_correction.preset"}
    assert resolved().config.rollout_correction == RolloutCorrectionSection()


def test_no_two_presets_are_the_same():
    assert len({json.dumps(preset, sort_keys=True) for preset in CORRECTION_PRESETS.values()}) == len(
        CORRECTION_PRESETS
    )


def test_what_is_set_besides_a_preset_wins_wherever_it_is_set(tmp_path):
    file = tmp_path / "ppo.toml"
    file.write_text('[rollout_correction]\nweight_high = 4.0\nreject = ["token_k3 0.5"]\n')
    run = load_config(
        "ppo", file, environ={"RLKIT__ROLLOUT_CORRECTION__PRESET": "geo_rs_token_tis"}, assignments=["actor.lr=1e-5"]
    )
    section = run.config.rollout_correction
    assert (section.importance_weights, section.weight_high, section.reject) == ("token", 4.0, ("token_k3 0.5",))
    assert str(run.origins["rollout_correction.importance_weights"]) == "preset geo_rs_token_tis"
    assert str(run.origins["rollout_correction.weight_high"]).endswith("ppo.toml:2")


def test_a_section_or_config_made_in_code_is_filled_in_too():
    assert RolloutCorrectionSection(preset="token_icepop").weight_low == 0.5
    config = PPOConfig.model_validate({"rollout_correction": {"preset": "bypass_pg_seq_tis"}})
    assert (config.rollout_correction.bypass, config.algorithm.policy_loss) == (True, "gpg")


def test_a_section_that_was_written_out_is_read_back_as_it_was():
    section = resolved("rollout_correction.preset=geo_rs", "rollout_correction.reject=[]").config.rollout_correction
    assert section.reject == ()
    assert RolloutCorrectionSection.model_validate(section.model_dump(mode="json")) == section


def test_config_show_prints_the_values_with_the_preset_as_origin(tmp_path):
    file = tmp_path / "ppo.toml"
    file.write_text('[rollout_correction]\npreset = "token_icepop"\n[rollout]\nsamples_per_prompt = 4\n')
    shown = CliRunner().invoke(app, ["config", "show", str(file), "--kind", "ppo", "--changed"])
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.output.splitlines()]
    assert ["weight_high", "=", "5.0", "#", "preset", "token_icepop"] in lines
    assert ["outside", "=", '"zero"', "#", "preset", "token_icepop"] in lines


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["rollout_correction.preset=token_tiss"],
            r"preset = 'token_tiss' \(--set\): must be one of .*'token_tis', 's",
        ),
        (["rollout_correction.weight_high=3"], "weight_high = 3.0 has no weights to act on"),
        (["rollout_correction.outside=zero"], "outside = zero has no weights to act on"),
        (["rollout_correction.preset=token_tis", "rollout_correction.weight_low=0.5"], 'is for .*outside = "zero"'),
        (["rollout_correction.preset=token_icepop", "rollout_correction.weight_low=5"], "must be below weight_high 5"),
        (["rollout_correction.reject='seq_max_k1 0.9 1.1'"], "would look at the smallest ratio of an answer only"),
        (
            ["rollout_correction.preset=bypass_pg_seq_tis", "rollout_correction.normalise=true"],
            "bypass never has; drop normalise or bypass",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(assignments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        resolved(*assignments)
    assert "\n" not in str(caught.value)
