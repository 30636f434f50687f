"""Which kind of run a file is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.kind import kind_of_file
from rlkit.config.load import load_config
from rlkit.config.runs import RUN_CONFIGS
from rlkit.errors import ConfigError


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_a_file_with_all_sections_of_a_kind_is_of_that_kind(kind, tmp_path):
    text = "\n".join(f"[{section}]" for section in RUN_CONFIGS[kind].model_fields)
    assert kind_of_file(written(tmp_path, "a.toml", text)) == kind


def test_a_misspelt_section_does_not_hide_the_kind(tmp_path):
    assert kind_of_file(written(tmp_path, "a.yaml", "rolout: {}\nalgorithm: {}\n")) == "ppo"


@pytest.mark.parametrize(("name", "text"), [("a.toml", ""), ("a.yaml", ""), ("a.toml", "[run]\n[model]\n")])
def test_a_file_that_fits_several_kinds_asks_which(tmp_path, name, text):
    with pytest.raises(ConfigError, match="say which with --kind"):
        kind_of_file(written(tmp_path, name, text))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[actor", "cannot be read: Expected"),
        ("a.yaml", "actor: [", "cannot be read: while parsing"),
        ("a.yaml", "3", "must hold sections"),
        ("a.jsonl", '{"prompt": "1"}\n{"prompt": "2"}\n', "must end in .toml, .yaml or .yml"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_as_such_rather_than_asked_about(tmp_path, name, text, message):
    file = written(tmp_path, name, text)
    with pytest.raises(ConfigError, match=message):
        load_config(kind_of_file(file), file, environ={})


def test_a_missing_file_is_told_as_such(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(kind_of_file(tmp_path / "none.toml"), tmp_path / "none.toml", environ={})
