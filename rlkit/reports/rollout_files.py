"""The rollouts files of a run: which can be read, how large they are, and columns of them as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyarrow import Table

T = TypeVar("T")


@dataclass(frozen=True)
class RolloutFile:
    """One step's answers. tokens: response tokens over all rows, 0 where the file does not hold them."""

    step: int
    path: Path
    columns: frozenset[str]
    rows: int
    tokens: int

    def read(self, names: Sequence[str]) -> Table:
        """Those of the columns `names` that the file has; no rows where it is damaged, or gone: a resumed run deletes the later ones."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = [name for name in names if name in self.columns]
        # Files of a step are small: starting threads and looking for a data set of many files takes longer than reading.
        try:
            return parquet.ParquetFile(self.path).read(columns, use_threads=False)
        except (OSError, pa.ArrowException):
            return pa.table({})


def rollout_files(folder: Path) -> list[RolloutFile]:
    """The readable parquet files of a run's `rollouts/`, by step; one that a crash has spoilt is passed over."""
    found = []
    for path in folder.glob("step_*.parquet"):
        number = path.stem.removeprefix("step_")
        file = _opened(int(number), path) if number.isdigit() else None
        if file is not None and file.rows:
            found.append(file)
    return sorted(found, key=lambda file: file.step)


def _opened(step: int, path: Path) -> RolloutFile | None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None
    names = {column.path.partition(".")[0]: at for at, column in enumerate(metadata.schema)}
    at = names.get("response_ids")
    groups = range(metadata.num_row_groups)
    tokens = 0 if at is None else sum(metadata.row_group(group).column(at).num_values for group in groups)
    return RolloutFile(step, path, frozenset(names), metadata.num_rows, tokens)


def token_values(table: Table, name: str) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """The values of a per-token column, flat [N], and where each row begins, [rows + 1]; None where a row or the column is missing."""
    import numpy as np

    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    if column.null_count:
        return None
    values = column.flatten().to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return values, offsets - offsets[0]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(position * (len(items) - 1) / (count - 1))] for position in range(count)]


def within_tokens(files: Sequence[RolloutFile], limit: int) -> list[RolloutFile]:
    """Evenly spaced files with about `limit` tokens together, at least one."""
    total = sum(file.tokens for file in files)
    return list(files) if total <= limit else evenly(files, max(1, len(files) * limit // total))
