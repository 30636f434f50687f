"""The contract suites of rlkit.testing, on this distribution's plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks

PLUGINS = ((PluginKind.ACTOR_BACKEND, "fsdp"),)


@pytest.mark.parametrize(
    ("kind", "name", "check"),
    [
        pytest.param(kind, name, check, id=f"{name}-{check.name}", marks=[pytest.mark.slow] if check.slow else [])
        for kind, name in PLUGINS
        for check in contract_checks(kind)
    ],
)
def test_contract(kind: PluginKind, name: str, check: ContractCheck, tmp_path: Path) -> None:
    check(ContractContext(plugin=load_plugin(kind, name), tmp_path=tmp_path))
