"""Runs as hooks see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.plugin.hookspecs import RunInfo

MakeRun = Callable[..., RunInfo]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Function: a run of ten steps in an empty folder; keywords change single fields."""

    def make(**fields: object) -> RunInfo:
        basics = {"kind": "ppo", "name": "first", "folder": tmp_path, "config": {}, "total_steps": 10, "first_step": 0}
        return RunInfo(**{**basics, **fields})  # type: ignore[arg-type]

    return make
