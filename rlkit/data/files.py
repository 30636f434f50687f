"""From the paths in a project file to rows.

train.jsonl  train.jsonl.gz  train.json  train.parquet  train.arrow  train.feather     files
shards/*.parquet                                                                       a pattern, in name order
openai/gsm8k:main@test                                                                 a Hub data set
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from rlkit.data.arrow_files import count_parquet_rows, read_arrow, read_parquet
from rlkit.data.hub import looks_like_hub_id, read_hub
from rlkit.data.json_files import read_json, read_jsonl
from rlkit.data.rows import Row
from rlkit.errors import DataError

Reader = Callable[[Path, str], Iterator[Row]]

READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".json.gz": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
"""File reader by ending."""

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin")


def read_rows(paths: Sequence[str], *, limit: int = 0) -> Iterator[Row]:
    """The rows of all `paths`, one source after another; at most `limit` of them (0: all).

    Raises `DataError` for a missing file, an unknown ending, an unreadable row, and when there is not a single row.
    """
    if not paths:
        raise DataError("no data files given")
    sources = [source for path in paths for source in _sources_of(path)]
    rows = (row for source in sources for row in _read_source(source))
    count = 0
    for row in islice(rows, limit or None):
        count += 1
        yield row
    if not count:
        raise DataError(f"no rows in {', '.join(paths)}: the data set is empty")


def count_rows(paths: Sequence[str], *, limit: int = 0) -> int:
    """How many rows `read_rows` would give, at the least cost; Hub data sets have to be loaded for it."""
    total = 0
    for path in paths:
        for source in _sources_of(path):
            if ending_of(source) == ".parquet" and Path(source).is_file():
                total += count_parquet_rows(Path(source), source)
            else:
                total += sum(1 for _ in _read_source(source))
    return min(total, limit) if limit else total


def check_sources(paths: Sequence[str]) -> None:
    """Raise `DataError` for a path that names no file and cannot be a Hub id. Reads nothing."""
    for path in paths:
        _sources_of(path)


def ending_of(path: str) -> str | None:
    """The known ending of `path`, or None."""
    name = path.lower()
    return next((ending for ending in sorted(READERS, key=len, reverse=True) if name.endswith(ending)), None)


def _read_source(source: str) -> Iterator[Row]:
    ending = ending_of(source)
    if ending is None:
        return read_hub(source)
    return READERS[ending](Path(source), source)


def _sources_of(path: str) -> list[str]:
    """The files that `path` stands for, or the Hub id itself."""
    file = Path(path).expanduser()
    if file.is_file():
        if ending_of(path) is None:
            raise DataError(f"cannot read {path}: {_unknown_ending(file)}")
        return [str(file)]
    if file.is_dir():
        raise DataError(f"{path} is a folder; name its files, or all of a kind: {path.rstrip('/')}/*.parquet")
    # `data/train` is a slip when the folder `data` is there, and a Hub id when it is not.
    if ending_of(path) is None and looks_like_hub_id(path) and not file.parent.is_dir():
        return [path]
    if glob.has_magic(path):
        matches = sorted(match for match in glob.glob(str(file), recursive=True) if ending_of(match))  # noqa: PTH207
        if not matches:
            raise DataError(f"no data file matches {path!r}; known endings: {', '.join(READERS)}")
        return matches
    raise DataError(_missing(path, file))


def _unknown_ending(file: Path) -> str:
    if file.suffix.lower() in _PICKLES:
        return "pickled files can run code and are never opened; export the rows as JSONL or parquet"
    return f"unknown ending {file.suffix or '(none)'!r}; known: {', '.join(READERS)}"


def _missing(path: str, file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"data file {path} not found: there is no folder {folder}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and ending_of(entry.name))
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.6)
    if near:
        return f"data file {path} not found; did you mean {folder / near[0]}?"
    if names:
        return f"data file {path} not found; data files in {folder}: {', '.join(names[:8])}"
    return f"data file {path} not found; there are no data files in {folder}"
