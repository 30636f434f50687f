"""The contract suites of rlkit.testing, on this distribution's plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractCheck, ContractContext, contract_checks

KIND = PluginKind.REWARD_FUNCTION
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "by_data_source": {"default": "exact_match"},
    "exact_match": {},
    "format": {},
    "gsm8k": {},
    "json_schema": {"definition": {"type": "integer"}},
    "length": {},
    "math": {},
    "multiple_choice": {},
}
"""The options with which each reward is checked: its defaults, where these can judge a small sum."""


@pytest.mark.parametrize(
    ("name", "check"),
    [pytest.param(name, check, id=f"{name}-{check.name}") for name in OPTIONS for check in contract_checks(KIND)],
)
def test_contract(name: str, check: ContractCheck, tmp_path: Path) -> None:
    check(ContractContext(plugin=load_plugin(KIND, name), tmp_path=tmp_path, options=OPTIONS[name]))
