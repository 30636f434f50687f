"""Which kind of run a project file is for, told by the sections that it has."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

from rlkit.config.runs import RUN_CONFIGS
from rlkit.errors import ConfigError


def kind_of_file(path: Path) -> str:
    """The kind whose sections are nearest to the file's. Raises `ConfigError` when two kinds are equally near.

    A file that cannot be read fits every kind; reading it properly will say what is wrong.
    """
    tables = set(_top_level(path))
    fits = {kind: len(tables - set(config_class.model_fields)) for kind, config_class in RUN_CONFIGS.items()}
    best = min(fits.values())
    kinds = [kind for kind, misfits in fits.items() if misfits == best]
    if len(kinds) > 1:
        raise ConfigError(f"{path} may be for {' or '.join(kinds)}; say which with --kind")
    return kinds[0]


def _top_level(path: Path) -> list[str]:
    content: Any = None
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"project file {path} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError):
        return []
    return list(content) if isinstance(content, dict) else []
