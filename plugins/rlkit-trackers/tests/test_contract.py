"""The contract suites of rlkit.testing, on this distribution's plugins whose packages are installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks

KIND = PluginKind.HOOK
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "tensorboard": {},
    "wandb": {"mode": "offline", "flush_s": 60},
    "mlflow": {},
    "trackio": {},
}
SLOW = ("wandb", "mlflow", "trackio")


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, id=f"{name}-{check.name}", marks=[pytest.mark.slow] if name in SLOW else [])
        for name in OPTIONS
        for check in contract_checks(KIND)
        if find_spec(name) is not None
    ],
)
def test_contract(name: str, check: ContractCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    check(ContractContext(plugin=load_plugin(KIND, name), tmp_path=tmp_path, options=OPTIONS[name]))
