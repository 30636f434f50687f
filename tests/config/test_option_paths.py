"""Paths among plugins' options are relative to the project file, wherever the command is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config

PROJECT = """
[reward]
functions = ["judge", "json_schema", "mine.py:score"]
[reward.options.judge]
url = "http://127.0.0.1:9/v1"
model = "m"
template_file = "judge.txt"
[reward.options.json_schema]
file = "schema.json"
column = "schema.json"
[reward.options."mine.py:score"]
file = "schema.json"
[run]
hooks = ["mine.py:hook"]
[run.hook_options."mine.py:hook"]
x = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("judge.txt", "schema.json", "mine.py"):
        (tmp_path / name).touch()
    monkeypatch.chdir("/")
    return tmp_path


def load(folder: Path, text: str, kind: str = "ppo", **given: Any) -> Any:
    (folder / "project.toml").write_text(text)
    return load_config(kind, folder / "project.toml", environ={}, **given).config


def test_what_an_options_class_marks_as_a_path_is_relative_to_the_file(folder: Path) -> None:
    options = load(folder, PROJECT).reward.options
    assert options["judge"]["template_file"] == f"{folder}/judge.txt"
    assert options["json_schema"] == {"file": f"{folder}/schema.json", "column": "schema.json"}


def test_options_of_a_file_follow_it_and_are_its_own_business(folder: Path) -> None:
    config = load(folder, PROJECT)
    assert config.reward.options[f"{folder}/mine.py:score"] == {"file": "schema.json"}
    assert config.run.hook_options == {f"{folder}/mine.py:hook": {"x": 1}}


def test_from_the_command_line_they_are_relative_to_where_one_is(folder: Path) -> None:
    assignments = ["reward.options.json_schema.file=schema.json"]
    options = load(folder, PROJECT, assignments=assignments).reward.options
    assert options["json_schema"]["file"] == "schema.json"


def test_in_options_within_options_and_in_an_evaluation_too(folder: Path) -> None:
    nested = '[evaluation]\nrewards.x = "by_data_source"\n[evaluation.reward_options.by_data_source]\n'
    nested += 'scorers = { y = "json_schema" }\noptions.json_schema.file = "schema.json"\n'
    options = load(folder, nested, "eval").evaluation.reward_options["by_data_source"]
    assert options["options"] == {"json_schema": {"file": f"{folder}/schema.json"}}


def test_names_that_are_no_files_and_plugins_that_are_not_there_stay_as_they_are(folder: Path) -> None:
    options = load(
        folder,
        '[reward]\nfunctions = ["reward_model", "nothing"]\n[reward.options.reward_model]\nmodel = "org/model"\n'
        '[reward.options.nothing]\nfile = "schema.json"\n',
    ).reward.options
    assert options == {"reward_model": {"model": "org/model"}, "nothing": {"file": "schema.json"}}
