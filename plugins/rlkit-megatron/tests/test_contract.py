"""The contract suites of rlkit.testing, on this distribution's plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks

pytestmark = pytest.mark.slow  # importing megatron-core alone takes seconds

PLUGIN = (PluginKind.ACTOR_BACKEND, "megatron")


@pytest.mark.parametrize("check", contract_checks(PluginKind.ACTOR_BACKEND), ids=str)
def test_contract(check: ContractCheck, tmp_path: Path) -> None:
    check(ContractContext(plugin=load_plugin(*PLUGIN), tmp_path=tmp_path))
