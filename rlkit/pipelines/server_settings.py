"""From the `[serve]` section to what a server is told; and what can be checked before a model is loaded."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from rlkit.config.runs import ServeConfig
from rlkit.config.serve_section import ServeSection
from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.types.server_settings import ServerSettings

SERVER_MODULES = ("starlette", "uvicorn")
NAMELESS_FOLDER = "model"
"""What runs call their models' folders."""


def check_server(section: ServeSection) -> None:
    """Raises `MissingRequirementError` without the server's packages, `ConfigError` for a key that is not there."""
    absent = [name for name in SERVER_MODULES if find_spec(name) is None]
    if absent:
        raise MissingRequirementError(f"rlkit serve needs {', '.join(absent)}; pip install 'rlkit-llm[serve]'")
    read_key(section.api_key_env, "serve.api_key_env")
    read_key(section.weights_key_env, "serve.weights_key_env")


def server_settings(config: ServeConfig, *, context_length: int) -> ServerSettings:
    """Everything that a server is told, keys included."""
    section = config.serve
    return ServerSettings(
        host=section.host,
        port=section.port,
        model_name=section.model_name or model_name_of(config.model.path),
        max_queue=section.max_queue,
        max_body_bytes=section.max_body_bytes,
        max_context=context_length,
        default_max_tokens=section.default_max_tokens,
        timeout_s=section.timeout_s,
        drain_timeout_s=section.drain_timeout_s,
        api_key=read_key(section.api_key_env, "serve.api_key_env"),
        weights_key=read_key(section.weights_key_env, "serve.weights_key_env"),
        weights_folders=tuple(Path(folder).expanduser() for folder in section.weights_folders),
        access_log=section.access_log,
        seed=config.run.seed,
    )


def read_key(variable: str, setting: str) -> str:
    """The key in the environment; empty when no variable is named. Raises `ConfigError` when it is not set."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"{setting} = {variable}, but that environment variable is not set; export it with the key")
    return key


def model_name_of(path: str) -> str:
    """What clients call a model that has no name: the Hub id, or the folder's name; of `RUN/model`, the run's."""
    if not Path(path).expanduser().is_dir():
        return path
    folder = Path(path).expanduser().resolve()
    return folder.parent.name if folder.name == NAMELESS_FOLDER else folder.name
