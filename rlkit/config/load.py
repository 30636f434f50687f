"""One resolved config from all sources: defaults < preset < project file < environment < --set < flags."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rlkit.config.base import Section
from rlkit.config.correction_presets import preset_keys
from rlkit.config.errors import validate_section
from rlkit.config.keys import leaf_keys, section_of
from rlkit.config.origins import DEFAULT, Origin
from rlkit.config.paths import resolve_paths
from rlkit.config.runs import RUN_CONFIGS, PPOConfig
from rlkit.config.sources import Source, read_assignments, read_environment, read_file, read_flags
from rlkit.errors import ConfigError


@dataclass(frozen=True)
class Resolved:
    """A validated config and where each of its leaves came from."""

    kind: str
    config: Any  # the RUN_CONFIGS class of `kind`
    origins: Mapping[str, Origin] = field(default_factory=dict)
    file: Path | None = None


def load_config(
    kind: str,
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    flag_names: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Resolved:
    """Read, merge and validate. Raises `ConfigError`, one line for each fault.

    flags       dotted key -> value, from plain command-line flags
    flag_names  dotted key -> how the flag is spelled, for messages
    environ     the environment; None means the process's own
    """
    config_class = config_class_of(kind)
    others = [other for name, other in RUN_CONFIGS.items() if name != kind]
    environment = os.environ if environ is None else environ
    sources: list[Source] = []
    if file is not None:
        sources.append(resolve_paths(config_class, read_file(config_class, file), file.parent))
    sources += [
        read_environment(config_class, others, environment),
        read_assignments(config_class, assignments),
        read_flags(config_class, flags or {}, flag_names or {}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for source in sources:
        values = merge_values(values, source.values, config_class)
        origins.update(source.origins)
    config = validate_section(config_class, values, origins=origins)
    assert isinstance(config, Section)
    presets = _preset_origins(config)
    complete = {key: origins.get(key, presets.get(key, DEFAULT)) for key, _ in leaf_keys(config_class)}
    return Resolved(kind, config, complete, file)


def _preset_origins(config: Section) -> dict[str, Origin]:
    """Of the keys that a preset may have filled in, whether or not it did."""
    if not isinstance(config, PPOConfig):
        return {}
    name = config.rollout_correction.preset
    return {key: Origin("preset", f"preset {name}") for key in preset_keys(name)}


def config_class_of(kind: str) -> type[Section]:
    if kind not in RUN_CONFIGS:
        raise ConfigError(f"unknown kind of run '{kind}'; kinds: {', '.join(RUN_CONFIGS)}")
    return RUN_CONFIGS[kind]


def merge_values(
    below: Mapping[str, Any], above: Mapping[str, Any], section_class: type[BaseModel] | None
) -> dict[str, Any]:
    """`above` wins, key by key; tables that are the value of one key (options) are merged too."""
    result = dict(below)
    for name, value in above.items():
        section_field = None if section_class is None else section_class.model_fields.get(name)
        inner = None if section_field is None else section_of(section_field.annotation)
        if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merge_values(result[name], value, inner)
        else:
            result[name] = value
    return result
