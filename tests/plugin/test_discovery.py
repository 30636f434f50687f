from __future__ import annotations

import sys

import pytest

from rlkit.plugin.discovery import installed_plugins, normalise_distribution
from rlkit.plugin.spec import PluginKind

REWARDS = "rlkit.reward_functions"


def found(name: str):
    return [plugin for plugin in installed_plugins() if plugin.name == name]


def test_an_entry_point_is_found_with_its_distribution(install):
    install("acme-reward", {REWARDS: {"acme": "acme_reward:spec"}}, version="2.5")
    (plugin,) = found("acme")
    assert plugin.kind is PluginKind.REWARD_FUNCTION
    assert (plugin.distribution, plugin.version, plugin.value) == ("acme-reward", "2.5", "acme_reward:spec")
    assert plugin.origin == "acme-reward 2.5"
    assert plugin.state == "ok"


def test_nothing_is_imported(install):
    install("acme", {REWARDS: {"acme": "acme_module:spec"}}, {"acme_module": "raise SystemExit('imported')"})
    assert found("acme")
    assert "acme_module" not in sys.modules


def test_plugins_come_by_kind_and_name(install):
    install("acme", {REWARDS: {"b": "m:b", "a": "m:a"}, "rlkit.model_families": {"z": "m:z"}})
    plugins = installed_plugins()
    order = list(PluginKind)
    keys = [(order.index(plugin.kind), plugin.name) for plugin in plugins]
    assert keys == sorted(keys)


def test_groups_of_others_are_not_ours(install):
    install("acme", {"rlkit.templates": {"t": "m:folder"}, "console_scripts": {"rlkit.x": "m:main"}})
    assert not [plugin for plugin in installed_plugins() if plugin.distribution == "acme"]


class TestConflicts:
    def test_the_same_kind_and_name_twice_marks_both(self, install):
        install("one", {REWARDS: {"acme": "m:a"}})
        install("two", {REWARDS: {"acme": "m:a"}})
        assert [(plugin.distribution, plugin.state) for plugin in found("acme")] == [
            ("one", "conflict"),
            ("two", "conflict"),
        ]

    def test_the_same_name_in_two_kinds_is_fine(self, install):
        install("one", {REWARDS: {"acme": "m:a"}, "rlkit.hooks": {"acme": "m:b"}})
        assert {plugin.state for plugin in found("acme")} == {"ok"}

    def test_one_distribution_met_twice_on_the_path_counts_once(self, install):
        install("Acme_Reward", {REWARDS: {"acme": "m:first"}}, version="1.0")
        install("acme-reward", {REWARDS: {"acme": "m:second"}}, version="2.0")
        assert [plugin.state for plugin in found("acme")] == ["ok"]

    def test_disabling_one_side_ends_the_conflict(self, install, monkeypatch):
        install("one", {REWARDS: {"acme": "m:a"}})
        install("two", {REWARDS: {"acme": "m:a"}})
        monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", "one")
        assert [plugin.state for plugin in found("acme")] == ["disabled", "ok"]


@pytest.mark.parametrize(
    ("disabled", "state"),
    [
        ("acme", "disabled"),
        ("reward_function:acme", "disabled"),
        ("Acme_Distribution", "disabled"),
        (" other , acme ", "disabled"),
        ("hook:acme", "ok"),
        ("acm", "ok"),
        ("", "ok"),
    ],
)
def test_plugins_are_disabled_by_name_kind_and_name_or_distribution(install, monkeypatch, disabled, state):
    install("acme-distribution", {REWARDS: {"acme": "m:a"}})
    monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", disabled)
    assert [plugin.state for plugin in found("acme")] == [state]


def test_distribution_names_compare_as_package_indexes_do():
    assert normalise_distribution("Foo_.Bar") == normalise_distribution("foo-bar") == "foo-bar"
