"""The config of an earlier run, with some of its values changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.config.base import Section
from rlkit.config.correction_presets import preset_keys
from rlkit.config.errors import validate_section
from rlkit.config.keys import flatten
from rlkit.config.load import config_class_of, merge_values
from rlkit.config.sources import read_assignments
from rlkit.errors import ConfigError

PRESET = "rollout_correction.preset"


@dataclass(frozen=True)
class Revised:
    """recorded, revised: the config before and after; changed: the keys whose values differ, in the order of the sections."""

    recorded: Any
    revised: Any
    changed: tuple[str, ...]


def revise_config(
    kind: str, values: Mapping[str, Any], assignments: Sequence[str], *, what: str, allowed: Sequence[str]
) -> Revised:
    """Read the `config` of a run.json and apply `key=value` assignments.

    what: the file, for messages; allowed: beginnings of the keys that may be changed. Raises `ConfigError` for a config of
    another version of rlkit, for keys that may not be changed, and as `load_config` does.
    """
    config_class = config_class_of(kind)
    try:
        recorded: Any = validate_section(config_class, values)
    except ConfigError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{what} is of another version of rlkit: {first}") from error
    given = read_assignments(config_class, assignments).values
    assigned = dict(flatten(dict(given), config_class))
    refused = [key for key in assigned if not key.startswith(tuple(allowed))]
    if refused:
        raise ConfigError(
            f"--set {refused[0]}: what the answers are and what they scored is recorded; only settings that begin with "
            f"{', '.join(allowed)} can be changed"
        )
    merged = _copied(values)
    if PRESET in assigned:
        for key in {**preset_keys(recorded.rollout_correction.preset), **preset_keys(assigned[PRESET])}:
            _remove(merged, key.split("."))
    revised = validate_section(config_class, merge_values(merged, given, config_class))
    return Revised(recorded, revised, _differing(recorded, revised))


def _differing(before: Section, after: Section) -> tuple[str, ...]:
    old = dict(flatten(before.model_dump(mode="json"), type(before)))
    return tuple(
        key for key, value in flatten(after.model_dump(mode="json"), type(after)) if key not in old or old[key] != value
    )


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _remove(table: Any, parts: Sequence[str]) -> None:
    *parents, name = parts
    for parent in parents:
        table = table.get(parent, {})
    table.pop(name, None)
