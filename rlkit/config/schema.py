"""JSON Schema of a project file, for editors that complete and check TOML and YAML."""

from __future__ import annotations

from typing import Any

from rlkit.config.load import config_class_of


def json_schema(kind: str) -> dict[str, Any]:
    """Schema (draft 2020-12) of the project files of one kind of run. Raises `ConfigError` for an unknown kind."""
    schema = config_class_of(kind).model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"rlkit {kind} project file",
    }
