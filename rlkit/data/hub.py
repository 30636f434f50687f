"""Data sets on the Hugging Face Hub, through the optional `datasets` package."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

from rlkit.data.rows import Row, without_nulls
from rlkit.errors import DataError, MissingRequirementError

_HUB_ID = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w.-]+))?(@(?P<split>[\w.\[\]%:-]+))?$"
)

OLDEST_DATASETS = 4
"""First major version of `datasets` that cannot run a data set's own Python script."""


def looks_like_hub_id(path: str) -> bool:
    """`owner/name`, with `:config` and `@split` if needed."""
    return _HUB_ID.match(path) is not None


def read_hub(path: str) -> Iterator[Row]:
    """Rows of `owner/name[:config][@split]`; the split is `train` unless given.

    Raises `MissingRequirementError` without the `datasets` package, `DataError` when the data set cannot be loaded.
    """
    found = _HUB_ID.match(path)
    if found is None:
        raise DataError(f"{path!r} is not a Hub id: expected owner/name, owner/name:config or owner/name@split")
    if importlib.util.find_spec("datasets") is None:
        raise MissingRequirementError(
            f"no file {path!r}; to read it as a data set from the Hub, install the datasets package: "
            "pip install 'rlkit-llm[hub]'"
        )
    import datasets

    if int(datasets.__version__.split(".")[0]) < OLDEST_DATASETS:
        raise MissingRequirementError(
            f"datasets {datasets.__version__} may run code that comes with a data set; "
            f"install version {OLDEST_DATASETS} or later: pip install 'rlkit-llm[hub]'"
        )
    name, config, split = found["name"], found["config"], found["split"] or "train"
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:
        # The package raises errors of many libraries (network, parsing, missing configs); all mean the same to a user.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load the Hub data set {path!r}: {reason}") from error
    for number, columns in enumerate(rows, start=1):
        yield Row(without_nulls(dict(columns)), path, number, "row")
