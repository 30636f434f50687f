"""Which kind of run a project file is for, told by the sections that it has."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

from rlkit.config.runs import RUN_CONFIGS
from rlkit.errors import ConfigError

OWN_SECTION = {"sft": "sft", "ppo": "algorithm", "generate": "generation", "serve": "serve", "eval": "evaluation"}
"""What a kind is about: it decides between kinds that know all of a file's sections."""


def kind_of_file(path: Path) -> str:
    """The kind whose sections are nearest to the file's. Raises `ConfigError` when two kinds are equally near.

    A file that cannot be read gets any kind: reading it properly will say what is wrong.
    """
    found = _top_level(path)
    if found is None:
        return next(iter(RUN_CONFIGS))
    tables = set(found)
    fits = {kind: len(tables - set(config_class.model_fields)) for kind, config_class in RUN_CONFIGS.items()}
    best = min(fits.values())
    kinds = [kind for kind, misfits in fits.items() if misfits == best]
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if OWN_SECTION[kind] in tables] or kinds
    if len(kinds) > 1:
        raise ConfigError(f"{path} may be for {' or '.join(kinds)}; say which with --kind")
    return kinds[0]


def _top_level(path: Path) -> list[str] | None:
    """Names of the file's sections, or None where it has none because it cannot be read."""
    content: Any = None
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if content is None:
        return []
    return [str(name) for name in content] if isinstance(content, dict) else None
