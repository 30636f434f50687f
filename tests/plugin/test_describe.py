from __future__ import annotations

import json
import sys

import pytest

from rlkit.plugin.describe import describe_plugin
from rlkit.plugin.loader import find_plugin
from rlkit.plugin.spec import PluginKind

GROUP = "rlkit.reward_functions"
SPEC = """
from rlkit.plugin import PluginKind, PluginSpec

spec = PluginSpec(
    kind=PluginKind.REWARD_FUNCTION, target="acme_target:target", summary="A test.", config="acme_options:Options"{extra}
)
"""
OPTIONS = '''
from rlkit.config import PluginOptions


class Options(PluginOptions):
    strength: int = 3
    """How strong."""
'''


@pytest.fixture
def describe(install):
    def make(extra: str = "", description: str = SPEC):
        modules = {"acme_plugin": description.format(extra=extra), "acme_options": OPTIONS, "acme_target": "1 / 0"}
        install("acme", {GROUP: {"acme": "acme_plugin:spec"}}, modules)
        return describe_plugin(find_plugin(PluginKind.REWARD_FUNCTION, "acme"))

    return make


def test_options_come_with_type_default_and_meaning_and_the_target_is_left_alone(describe):
    found = describe()
    (option,) = found.options
    assert (option.name, option.default, option.doc) == ("strength", "3", "How strong.")
    assert (found.problem, found.summary, found.target) == ("", "A test.", "acme_target:target")
    assert "acme_target" not in sys.modules


def test_missing_modules_are_a_problem_and_options_are_read_where_they_can_be(describe):
    found = describe(", requires=('no_such_module',), install_hint='pip install it'")
    assert found.missing == ("no_such_module",)
    assert found.problem == "needs no_such_module, not installed"
    assert found.install_hint == "pip install it"
    assert [option.name for option in found.options] == ["strength"]


def test_another_plugin_api_is_a_problem(describe):
    found = describe(", api_version=99")
    assert "made for plugin API 99" in found.problem
    assert found.summary == "A test."


def test_a_broken_description_leaves_what_the_metadata_says(describe):
    found = describe(description="raise RuntimeError('no licence')")
    assert (found.distribution, found.version, found.entry_point) == ("acme", "1.0", "acme_plugin:spec")
    assert "no licence" in found.problem


def test_a_description_can_be_written_as_json(describe):
    assert json.loads(json.dumps(describe().as_json()))["options"][0]["name"] == "strength"
