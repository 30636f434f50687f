"""JSON lines and JSON arrays, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rlkit.data.rows import Row, without_nulls
from rlkit.errors import DataError


def read_jsonl(path: Path, name: str) -> Iterator[Row]:
    """One object a line; blank lines are skipped. `name` is how messages call the file."""
    with _open(path) as stream:
        try:
            yield from _read_lines(stream, name)
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{name}: damaged gzip file ({error})") from error


def read_json(path: Path, name: str) -> Iterator[Row]:
    """An array of objects, an object with one array of objects (`{"data": [...]}`), or in truth JSON lines."""
    with _open(path) as stream:
        try:
            raw = stream.read()
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{name}: damaged gzip file ({error})") from error
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _read_lines(io.BytesIO(raw), name)
            return
        raise DataError(f"{name}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    for number, columns in enumerate(_array_in(document, name), start=1):
        yield _row(columns, name, number, "row")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _read_lines(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, raw in enumerate(stream, start=1):
        if not raw.strip():
            continue
        try:
            columns = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: not UTF-8 text (byte {error.start})") from error
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {number}: not valid JSON ({error.msg}, column {error.colno})") from error
        yield _row(columns, name, number, "line")


def _array_in(document: Any, name: str) -> list[Any]:
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        arrays = [value for value in document.values() if isinstance(value, list)]
        if len(document) == 1 and arrays:
            return arrays[0]
        return [document]
    raise DataError(f"{name}: expected an array of objects, got {_kind(document)}")


def _row(columns: Any, name: str, number: int, unit: Any) -> Row:
    if not isinstance(columns, dict):
        raise DataError(f"{name}, {unit} {number}: expected an object with named columns, got {_kind(columns)}")
    return Row(without_nulls(columns), name, number, unit)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")
