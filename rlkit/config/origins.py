"""Where a value came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Origin:
    """kind, and what a person would look for: file and line, variable, flag, name of the preset."""

    kind: Literal["default", "preset", "file", "environment", "set", "flag"]
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or self.kind


DEFAULT = Origin("default")
