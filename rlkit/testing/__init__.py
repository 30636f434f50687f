"""For authors of plugins: a contract suite for each kind, a tiny real model, and fakes.

@pytest.mark.parametrize("check", contract_checks(PluginKind.ROLLOUT_ENGINE), ids=str)
def test_contract(check, tmp_path):
    check(ContractContext(plugin=load_plugin(PluginKind.ROLLOUT_ENGINE, "mine"), tmp_path=tmp_path))
"""

from __future__ import annotations

from rlkit.testing.contract import ContractCheck, ContractContext, contract_checks

__all__ = ["ContractCheck", "ContractContext", "contract_checks"]
