from __future__ import annotations

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractContext, contract_checks


@pytest.mark.parametrize("name", ["console", "jsonl"])
@pytest.mark.parametrize("check", contract_checks(PluginKind.HOOK), ids=str)
def test_built_in_hooks_keep_the_contract(name, check, tmp_path):
    check(ContractContext(load_plugin(PluginKind.HOOK, name), tmp_path))


def test_both_are_called_in_every_run(make_run, monkeypatch, capsys):
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")
    run = make_run()
    relay = HookRelay.for_run()
    relay.run_started(run=run)
    relay.step_finished(run=run, step=1, metrics={"reward/mean": 0.5})
    relay.run_finished(run=run, status="finished")
    assert relay.failures == {}
    assert "reward 0.500" in capsys.readouterr().err
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 1
