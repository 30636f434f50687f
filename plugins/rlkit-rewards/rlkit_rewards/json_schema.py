"""The answer is JSON that follows a schema (JSON Schema, draft 2020-12 unless the schema names another)."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from rlkit.errors import ConfigError
from rlkit.types import Reward, Sample
from rlkit_rewards.options import JSONSchemaOptions

COLUMNS = ("json_schema", "schema")
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


class JSONSchema:
    """Score 1 for JSON that is valid, `partial_credit` times the share of properties that are, 0 for no JSON.

    Parts: parses, valid (0 or 1). A row without a schema, where the options have none, may answer with any JSON.
    """

    judges_apart = True

    def __init__(self, options: JSONSchemaOptions) -> None:
        self.options = options
        schema = _read_schema(options.file) if options.file else options.definition
        self.validator = None
        if schema:
            try:
                self.validator = _validator(json.dumps(schema))
            except ValueError as error:
                raise ConfigError(f"reward.options.json_schema: {error}") from error

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample) for sample in samples]

    def _judge(self, sample: Sample) -> Reward:
        validator = self.validator or self._row_validator(sample.prompt.extra)
        parsed, value = parse_answer(sample.response, self.options.where)
        if not parsed:
            return Reward(0.0, {"parses": 0.0, "valid": 0.0})
        errors = [] if validator is None else _errors(validator, value)
        if not errors:
            return Reward(1.0, {"parses": 1.0, "valid": 1.0})
        share = _right_share(value, validator.schema, errors) if self.options.partial_credit else 0.0
        return Reward(self.options.partial_credit * share, {"parses": 1.0, "valid": 0.0})

    def _row_validator(self, row: Mapping[str, Any]) -> Any:
        column = self.options.column or next((name for name in COLUMNS if name in row), "")
        if not column:
            return None
        if column not in row:
            raise ValueError(f"the row has no column {column!r} (reward.options.json_schema.column)")
        schema = row[column]
        return _validator(schema if isinstance(schema, str) else json.dumps(schema))


def parse_answer(response: str, where: str) -> tuple[bool, Any]:
    """Whether there is JSON in the place that `where` names, and its value."""
    text: str | None = None
    if where != "whole":
        for fence in _FENCE.finditer(response):
            text = fence[1]
        if text is None and where == "fence":
            return False, None
    try:
        return True, json.loads(response if text is None else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False, None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _read_schema(path: str) -> Mapping[str, Any]:
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"reward.options.json_schema.file: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"reward.options.json_schema.file: {path} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"reward.options.json_schema.file: {path} holds no object")
    return schema


@functools.lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    """Raises `ValueError` for text that is no schema. References are resolved inside the schema only, never fetched."""
    try:
        schema = json.loads(schema_text)
        kind = validator_for(schema)
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"the schema is none: {error.message} (at {error.json_path})") from error
    return kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def _errors(validator: Any, value: Any) -> list[ValidationError]:
    try:
        return list(validator.iter_errors(value))
    except Unresolvable as error:
        raise ValueError(f"the schema refers to {error.ref!r}, which is not in it") from error
    except RecursionError:
        return [ValidationError("too deep")]


def _right_share(value: Any, schema: Any, errors: Sequence[ValidationError]) -> float:
    """Share of the schema's top-level properties that are as they should be; 0 where there are none, or the rest is wrong."""
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return 0.0
    names = set(schema.get("properties", {})) | set(schema.get("required", ()))
    wrong: set[str] = set()
    others = 0
    for error in errors:
        if error.absolute_path:
            wrong.add(str(error.absolute_path[0]))
        elif error.validator == "required":
            wrong.update(name for name in schema["required"] if name not in value)
        else:
            others += 1  # a property too many, or a rule about the whole
    total = len(names) + others
    return len(names - wrong) / total if total else 0.0
