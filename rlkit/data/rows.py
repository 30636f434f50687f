"""One row of a data file, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """A row's columns without their nulls, and its place for error messages."""

    columns: Mapping[str, Any]
    file: str
    number: int  # counted from 1
    unit: Literal["line", "row"]

    @property
    def place(self) -> str:
        """`data/train.jsonl, line 3`."""
        return f"{self.file}, {self.unit} {self.number}"


def without_nulls(value: Any) -> Any:
    """`value` without the keys that hold None, at every depth.

    Columnar files give every struct the fields of all others, filled with None; without them, the same rows read from
    JSONL and from parquet are equal. None inside a list stays: positions carry meaning there.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value
