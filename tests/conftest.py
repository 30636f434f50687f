"""Fixtures for the whole suite."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from rlkit.plugin import discovery

REPOSITORY = Path(__file__).resolve().parents[1]
Install = Callable[..., None]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets (GSM8K, HumanEval), which is not part of the project; skips without it."""
    folder = Path(os.environ.get("RLKIT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data folder at {folder} (set RLKIT_SHARED_DATA)")
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Function: put a distribution on the path for one test: metadata as pip writes it, and modules beside it.

    `install("acme", {"rlkit.hooks": {"name": "module:attribute"}}, {"module": "source"}, version="1.0")`
    """
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv(discovery.DISABLED_VARIABLE, raising=False)
    before = set(sys.modules)

    def write(
        distribution: str,
        groups: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
    ) -> None:
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n")
        lines = [
            f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in entries.items()) for group, entries in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, source in (modules or {}).items():
            (folder / f"{name}.py").write_text(source)
        importlib.invalidate_caches()  # folders are looked into again when their time changes, which may take milliseconds
        discovery._read_metadata.cache_clear()

    yield write
    discovery._read_metadata.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
