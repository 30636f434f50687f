"""The settings of runs, key by key, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.reports.run_data import RunData

ALWAYS_DIFFERENT = frozenset({"run.name"})
"""Keys whose difference says nothing about what the runs did."""
MISSING = "\u2013"


@dataclass(frozen=True)
class Setting:
    """One key: its value (JSON) and origin in each run; MISSING where a run has no such key."""

    key: str
    values: tuple[str, ...]
    origins: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1 and self.key not in ALWAYS_DIFFERENT

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "values": self.values, "origins": self.origins, "differs": self.differs}


def read_settings(runs: Sequence[RunData]) -> list[Setting]:
    """Every key that any of the runs has, in the order of the first that has it."""
    trees = [dict(leaves(run.config)) for run in runs]
    origins = [run.run.get("origins") or {} for run in runs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return [
        Setting(
            key,
            tuple(json.dumps(tree[key], ensure_ascii=False) if key in tree else MISSING for tree in trees),
            tuple(str(found.get(key, "default")) for found in origins),
        )
        for key in keys
    ]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The values of a nested config by dotted key; an empty section is a value."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
