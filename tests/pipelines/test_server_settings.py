from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.pipelines import server_settings as module
from rlkit.pipelines.server_settings import check_server, model_name_of, server_settings


def config(*assignments: str) -> Any:
    return load_config("serve", assignments=["model.path=models/tiny", *assignments], environ={}).config


def test_keys_come_from_the_environment_and_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENTS", " client-key\n")
    monkeypatch.setenv("ADMIN", "admin-key")
    keys = ["serve.api_key_env=CLIENTS", "serve.weights_key_env=ADMIN", "serve.weights_folders=runs"]
    settings = server_settings(config(*keys), context_length=64)
    assert (settings.api_key, settings.weights_key) == ("client-key", "admin-key")
    assert (settings.weights_folders, settings.max_context) == ((Path("runs"),), 64)
    assert "key" not in repr(settings).replace("weights_key", "").replace("api_key", "")


@pytest.mark.parametrize("key", ["api_key_env", "weights_key_env"])
@pytest.mark.parametrize("value", [None, " "])
def test_a_key_that_is_not_there_is_a_user_s_error(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str | None
) -> None:
    monkeypatch.delenv("MISSING", raising=False)
    if value is not None:
        monkeypatch.setenv("MISSING", value)
    with pytest.raises(ConfigError, match=rf"serve\.{key} = MISSING.*export it"):
        check_server(config(f"serve.{key}=MISSING").serve)


def test_without_the_server_s_packages_the_way_to_get_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingRequirementError, match=r"starlette, uvicorn; pip install 'rlkit-llm\[serve\]'"):
        check_server(config().serve)


def test_what_clients_call_a_model(tmp_path: Path) -> None:
    for folder in ("tiny", "runs/sft/model"):
        (tmp_path / folder).mkdir(parents=True)
    assert model_name_of(str(tmp_path / "tiny")) == "tiny"
    assert model_name_of(str(tmp_path / "runs" / "sft" / "model")) == "sft"
    assert model_name_of(str(tmp_path / "runs" / "sft")) == "sft"
    assert model_name_of("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert server_settings(config("serve.model_name=mine"), context_length=64).model_name == "mine"
