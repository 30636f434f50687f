from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from rlkit.data.arrow_files import count_parquet_rows, read_arrow, read_parquet
from rlkit.errors import DataError


def test_both_ipc_formats_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(3000))})
    with pa.ipc.new_file(str(tmp_path / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("file.arrow", "stream.arrow"):
        rows = list(read_arrow(tmp_path / name, name))
        assert [row.columns["a"] for row in rows] == list(range(3000))
        assert rows[-1].place == f"{name}, row 3000"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name, reader in (("x.parquet", read_parquet), ("x.arrow", read_arrow)):
        (tmp_path / name).write_bytes(b"this is not a table at all")
        with pytest.raises(DataError, match=f"^{name}: not a readable") as caught:
            list(reader(tmp_path / name, name))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="not a readable parquet"):
        count_parquet_rows(tmp_path / "x.parquet", "x.parquet")


def test_maps_become_objects(tmp_path: Path) -> None:
    table = pa.table({"m": pa.array([[("k", 1)]], type=pa.map_(pa.string(), pa.int64()))})
    pa.parquet.write_table(table, tmp_path / "m.parquet")
    assert [row.columns for row in read_parquet(tmp_path / "m.parquet", "m")] == [{"m": {"k": 1}}]
