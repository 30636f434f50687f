from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rlkit.data.json_files import read_json, read_jsonl
from rlkit.errors import DataError


def test_a_broken_line_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 1,,}\n')
    with pytest.raises(DataError, match=r"^rows.jsonl, line 3: not valid JSON \(.*column 9\)$"):
        list(read_jsonl(path, "rows.jsonl"))


@pytest.mark.parametrize(
    ("line", "kind"), [("[1]", "an array"), ('"x"', "a string"), ("3", "a number"), ("null", "null")]
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=f"line 1: expected an object with named columns, got {kind}"):
        list(read_jsonl(path, "rows.jsonl"))


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": "ok"}\n{"a": "Grüße"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        list(read_jsonl(path, "rows.jsonl"))


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    for reader in (read_jsonl, read_json):
        path = tmp_path / "rows"
        path.write_text('{"a": 1}', encoding="utf-8-sig")
        assert [row.columns for row in reader(path, "rows")] == [{"a": 1}]


def test_json_files_may_hold_an_array_a_named_array_or_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for text in ('[{"a": 1}, {"a": 2}]', '{"data": [{"a": 1}, {"a": 2}]}', '{"a": 1}\n{"a": 2}\n'):
        path.write_text(text)
        assert [row.columns for row in read_json(path, "rows.json")] == [{"a": 1}, {"a": 2}]


def test_broken_json_and_gzip_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1},\n{"a": }]')
    with pytest.raises(DataError, match=r"rows\.json, line 2: not valid JSON"):
        list(read_json(path, "rows.json"))
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-10])
    with pytest.raises(DataError, match="damaged gzip"):
        list(read_jsonl(packed, "rows.jsonl.gz"))


def test_nulls_are_left_out_at_every_depth(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": null, "b": {"c": null, "d": [null, {"e": null}]}}\n')
    assert [row.columns for row in read_jsonl(path, "rows.jsonl")] == [{"b": {"d": [None, {}]}}]
