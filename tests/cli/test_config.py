"""`rlkit config`: values with origins, explanations, schemas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.config import config_app
from rlkit.config.keys import children_of, leaf_keys
from rlkit.config.runs import RUN_CONFIGS
from rlkit.errors import ConfigError
from rlkit.plugin import PluginKind
from rlkit.plugin.discovery import plugin_names


def run(*arguments: str) -> str:
    result = CliRunner().invoke(config_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "ppo.toml"
    file.write_text("[actor]\nlr = 1e-4\n[rollout]\nengine = 'hf'\n")
    return file


def test_show_prints_every_value_with_its_origin(project, monkeypatch):
    monkeypatch.setenv("RLKIT__CRITIC__LR", "1e-3")
    lines = run("show", str(project), "--set", "trainer.steps=5").splitlines()
    shown = [line for line in lines if " = " in line]
    assert len(shown) == len(list(leaf_keys(RUN_CONFIGS["ppo"])))
    assert any(line.startswith("lr ") and "0.0001" in line and line.endswith("ppo.toml:2") for line in lines)
    assert any(line.startswith("lr ") and "0.001" in line and "# RLKIT__CRITIC__LR" in line for line in lines)
    assert any(line.startswith("steps ") and line.endswith("# --set") for line in lines)


def test_show_can_leave_defaults_out_and_speak_json(project):
    values = json.loads(run("show", str(project), "--changed", "--json"))["values"]
    assert {key: entry["value"] for key, entry in values.items() if key != "run.output"} == {
        "actor.lr": 1e-4,
        "rollout.engine": "hf",
    }


def test_show_prints_values_that_a_project_file_accepts_again(project, tmp_path):
    again = tmp_path / "again.toml"
    again.write_text(run("show", str(project)))
    first, second = (json.loads(run("show", str(file), "--json"))["values"] for file in (project, again))
    assert {key: entry["value"] for key, entry in first.items()} == {
        key: entry["value"] for key, entry in second.items()
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[sft]\n", "sft"), ("[rollout]\n", "ppo"), ("[generation]\n", "generate"), ("[evaluation]\n", "eval")],
)
def test_the_kind_is_told_by_the_sections(tmp_path, text, kind):
    file = tmp_path / "project.toml"
    file.write_text(text)
    assert json.loads(run("show", str(file), "--json"))["kind"] == kind


def test_a_file_that_fits_two_kinds_asks_which(tmp_path):
    file = tmp_path / "project.toml"
    file.write_text("[run]\nseed = 1\n")
    with pytest.raises(ConfigError, match=r"may be for sft or ppo or generate or serve or eval; say which with --kind"):
        run("show", str(file))
    assert json.loads(run("show", str(file), "--kind", "sft", "--json"))["kind"] == "sft"


def test_explain_gives_type_default_effect_and_every_way_to_set_it():
    text = run("explain", "reward.timeout_s")
    for part in (
        "reward.timeout_s = 30.0",
        "> 0",
        "Seconds after which",
        "RLKIT__REWARD__TIMEOUT_S",
        "--set reward.timeout_s",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("key", "kind"),
    [("algorithm.advantage", "advantage_estimator"), ("algorithm.policy_loss", "policy_loss")],
)
def test_explain_lists_everything_that_a_key_can_name(key, kind):
    text = run("explain", key)
    listed = json.loads(run("explain", key, "--json"))[0]["installed"]
    assert len(listed) >= 10
    assert sorted(listed) == sorted(plugin_names(PluginKind(kind)))
    assert all(f"\n    {name} " in text for name in listed)


def test_an_option_of_a_plugin_is_told_from_a_key():
    with pytest.raises(ConfigError, match=r"it is an option of gae: algorithm.advantage_options.lam$"):
        run("explain", "algorithm.lam")


def test_explain_of_a_section_lists_its_keys():
    expected = {f"reference.{name}" for name in children_of(RUN_CONFIGS["ppo"], "reference")}
    assert {item["key"] for item in json.loads(run("explain", "reference", "--json"))} == expected
    assert "reference.path" in expected


@pytest.mark.parametrize(
    ("key", "near"),
    [("actr.lr", "actor.lr"), ("lr", "sft.lr or actor.lr or critic.lr"), ("algoritm.epochs", "algorithm.epochs")],
)
def test_explain_knows_what_was_meant(key, near):
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        run("explain", key)


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_schemas_describe_every_key_and_refuse_others(kind):
    schema = json.loads(run("schema", kind))
    assert schema["additionalProperties"] is False
    for key, _ in leaf_keys(RUN_CONFIGS[kind]):
        *tables, name = key.split(".")
        entry = schema
        for table in tables:
            properties = entry["properties"][table]
            entry = schema["$defs"][(properties.get("$ref") or properties["allOf"][0]["$ref"]).rpartition("/")[2]]
            assert entry["additionalProperties"] is False
        assert entry["properties"][name]["description"]
