"""Parquet, Arrow (both IPC formats, as `datasets` writes them) and Feather."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlkit.data.rows import Row, without_nulls
from rlkit.errors import DataError

BATCH_ROWS = 1024
"""Rows turned into Python objects at once, so that memory does not grow with the file."""


def read_parquet(path: Path, name: str) -> Iterator[Row]:
    """Rows of a parquet file, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _rows_of(file.iter_batches(batch_size=BATCH_ROWS), name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable parquet file ({_first_line(error)})") from error


def read_arrow(path: Path, name: str) -> Iterator[Row]:
    """Rows of an Arrow or Feather file: the random-access format (which Feather is) or the stream format."""
    import pyarrow as pa
    import pyarrow.ipc as ipc

    try:
        with pa.memory_map(str(path)) as source:
            magic = source.read(6)
            source.seek(0)
            if magic == b"ARROW1":
                with ipc.open_file(source) as reader:
                    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
                    yield from _rows_of(batches, name)
            else:
                with ipc.open_stream(source) as stream:
                    yield from _rows_of(stream, name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable Arrow file ({_first_line(error)})") from error


def count_parquet_rows(path: Path, name: str) -> int:
    """From the file's footer, without reading the rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable parquet file ({_first_line(error)})") from error


def _rows_of(batches: Any, name: str) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for columns in batch.slice(start, BATCH_ROWS).to_pylist(maps_as_pydicts="lossy"):
                number += 1
                yield Row(without_nulls(columns), name, number, "row")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
