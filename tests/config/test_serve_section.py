from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


def test_the_default_is_reached_from_this_machine_only() -> None:
    section = load_config("serve", environ={}).config.serve
    assert section.host == "127.0.0.1"
    assert section.weights_folders == ()
    assert not section.access_log


def test_new_weights_need_a_key_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"serve\.weights_key_env"):
        load_config("serve", assignments=["serve.weights_folders=runs", "serve.api_key_env=KEY"], environ={})
    both = ["serve.weights_folders=runs", "serve.weights_key_env=KEY"]
    assert load_config("serve", assignments=both, environ={}).config.serve.weights_folders == ("runs",)


def test_folders_are_those_beside_the_project_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('[serve]\nweights_folders = ["runs", "/elsewhere"]\nweights_key_env = "KEY"\n')
    section = load_config("serve", file, environ={}).config.serve
    assert section.weights_folders == (str(tmp_path / "runs"), "/elsewhere")


@pytest.mark.parametrize("value", ["serve.port=70000", "serve.port=-1", "serve.max_queue=0", "serve.timeout_s=-1"])
def test_numbers_out_of_range_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=value.partition("=")[0]):
        load_config("serve", assignments=[value], environ={})


@pytest.mark.parametrize("key", ["run.hooks=x", "run.output=x", "run.resume=must", "run.name=x"])
def test_what_a_server_has_no_use_for_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key.partition("=")[0].replace(".", r"\.")):
        load_config("serve", assignments=[key], environ={})
