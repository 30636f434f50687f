from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractContext
from rlkit.testing.contracts.description import the_description_imports_nothing_heavy

SPEC = """
{first}
from rlkit.plugin import PluginKind, PluginSpec

spec = PluginSpec(kind=PluginKind.REWARD_FUNCTION, target="acme_target:target", summary="A test.")
"""
TARGET = "import torch\n\ndef target(response):\n    return 1.0\n"


@pytest.fixture
def acme(install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Function: the context of a plugin whose description begins with this line."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site-packages"))  # for the process that the check starts

    def make(first: str) -> ContractContext:
        modules = {"acme_plugin": SPEC.format(first=first), "acme_target": TARGET}
        install("acme", {"rlkit.reward_functions": {"acme": "acme_plugin:spec"}}, modules)
        return ContractContext(load_plugin(PluginKind.REWARD_FUNCTION, "acme"), tmp_path)

    return make


def test_a_light_description_passes_whatever_its_target_imports(acme):
    the_description_imports_nothing_heavy(acme("import json"))


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_a_heavy_description_is_found(acme, module):
    with pytest.raises(AssertionError, match=rf"acme_plugin, where the PluginSpec is, imports .*{module}"):
        the_description_imports_nothing_heavy(acme(f"import {module}.nn" if module == "torch" else f"import {module}"))


def test_a_description_that_only_loads_here_is_found(acme):
    with pytest.raises(AssertionError, match="importing acme_plugin failed: ModuleNotFoundError"):
        the_description_imports_nothing_heavy(acme("import sys\nif 'pytest' not in sys.modules: import no_such_module"))


def test_a_file_has_no_description(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\n\ndef score(response):\n    return 1.0\n")
    plugin = load_plugin(PluginKind.REWARD_FUNCTION, f"{path}:score")
    the_description_imports_nothing_heavy(ContractContext(plugin, tmp_path))
