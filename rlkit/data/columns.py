"""Which column holds what: found by name, unless the project file says it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from rlkit.data.rows import Row
from rlkit.errors import DataError

PROMPT_COLUMNS = ("prompt", "messages", "question", "problem", "instruction")
"""Columns that may hold a prompt, the first present one is taken."""

REFERENCE_COLUMNS = ("reward_model.ground_truth", "answer", "solution", "target", "ground_truth", "reference")
"""Columns that may hold the reference answer, the first present one is taken."""

_MISSING = object()


def find_prompt_column(row: Row, key: str = "") -> str:
    """`key` when given, else the first of PROMPT_COLUMNS in `row`. Raises `DataError` listing the row's columns."""
    if key:
        require_column(row, key, setting="prompt_key")
        return key
    for column in PROMPT_COLUMNS:
        if column in row.columns:
            return column
    raise DataError(
        f"{row.place}: no prompt column ({', '.join(PROMPT_COLUMNS)}); set prompt_key to one of: {_columns(row)}"
    )


def find_reference_column(row: Row, key: str = "") -> str | None:
    """`key` when given, else the first of REFERENCE_COLUMNS in `row`, else None: a reward may need no reference."""
    if key:
        require_column(row, key, setting="reference_key")
        return key
    return next((column for column in REFERENCE_COLUMNS if lookup(row.columns, column) is not _MISSING), None)


def require_column(row: Row, key: str, *, setting: str) -> Any:
    """The value at `key` (dots step into nested objects). Raises `DataError` listing the row's columns."""
    value = lookup(row.columns, key)
    if value is _MISSING:
        near = difflib.get_close_matches(key, [str(column) for column in row.columns], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{row.place}: no column {key!r} ({setting}); columns: {_columns(row)}.{hint}")
    return value


def value_or_none(columns: Mapping[str, Any], key: str) -> Any:
    """The value at `key` (dots step into nested objects), or None."""
    value = lookup(columns, key)
    return None if value is _MISSING else value


def lookup(columns: Mapping[str, Any], key: str) -> Any:
    """The value at `key`: a column of that very name, else a path of nested objects; a private marker when absent."""
    if key in columns:
        return columns[key]
    value: Any = columns
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def has_columns(row: Row, names: Sequence[str]) -> bool:
    """All of `names` are columns of `row`."""
    return all(name in row.columns for name in names)


def _columns(row: Row) -> str:
    return ", ".join(map(str, row.columns)) or "(none)"
