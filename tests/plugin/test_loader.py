from __future__ import annotations

import sys

import pytest

from rlkit.errors import (
    BrokenPluginError,
    ConfigError,
    MissingRequirementError,
    PluginConflictError,
    PluginNotFoundError,
)
from rlkit.plugin.loader import build_plugin, load_plugin, load_spec
from rlkit.plugin.spec import PLUGIN_API_VERSION, PluginKind

REWARD = PluginKind.REWARD_FUNCTION
GROUP = "rlkit.reward_functions"


def description(extra: str = "", kind: str = "REWARD_FUNCTION") -> str:
    return (
        "from rlkit.plugin import PluginKind, PluginSpec\n"
        f"spec = PluginSpec(kind=PluginKind.{kind}, target='acme_target:target', summary='A test.'{extra})\n"
    )


TARGET = """
from rlkit.config import PluginOptions

class Options(PluginOptions):
    strength: int = 3

def target(*arguments, **context):
    return arguments, context
"""


@pytest.fixture
def acme(install):
    """Function: install the plugin `acme` with this description and target."""

    def make(source: str, target: str = TARGET) -> None:
        install("acme-reward", {GROUP: {"acme": "acme_plugin:spec"}}, {"acme_plugin": source, "acme_target": target})

    return make


class TestFinding:
    def test_a_near_name_is_suggested(self):
        with pytest.raises(PluginNotFoundError, match=r"reward function 'gsm8' not found; .*Did you mean 'gsm8k'\?"):
            load_plugin(REWARD, "gsm8")

    def test_a_name_unlike_any_other_lists_what_is_installed(self):
        with pytest.raises(PluginNotFoundError, match=r"installed: .*gsm8k.*") as caught:
            load_plugin(REWARD, "xyzzy")
        assert "Did you mean" not in str(caught.value)

    def test_a_conflict_names_both_providers_and_versions(self, install):
        install("one", {GROUP: {"acme": "m:a"}}, version="1.0")
        install("two", {GROUP: {"acme": "m:a"}}, version="2.0")
        with pytest.raises(PluginConflictError, match=r"provided by one 1\.0 and two 2\.0; uninstall one of them"):
            load_plugin(REWARD, "acme")

    def test_a_disabled_plugin_says_so(self, acme, monkeypatch):
        acme(description())
        monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", "acme")
        with pytest.raises(PluginNotFoundError, match="is installed but disabled by RLKIT_DISABLED_PLUGINS"):
            load_plugin(REWARD, "acme")


class TestDescription:
    def test_reading_it_does_not_import_the_target(self, acme):
        acme(description())
        assert load_spec(REWARD, "acme").summary == "A test."
        assert "acme_target" not in sys.modules

    @pytest.mark.parametrize(
        ("source", "cause"),
        [
            ("raise RuntimeError('no\\nlicence')", "RuntimeError: no licence"),
            ("import no_such_module", "No module named 'no_such_module'"),
            ("raise SystemExit(1)", "SystemExit: 1"),
            ("def broken(:", "SyntaxError"),
            ("spcc = 1", "has no attribute 'spec'"),
            ("spec = 'text'", "acme_plugin:spec is a str, not a PluginSpec"),
            (description(kind="HOOK"), "describes a hook, but is registered under rlkit.reward_functions"),
        ],
    )
    def test_a_broken_one_names_distribution_version_and_cause(self, acme, source, cause):
        acme(source)
        with pytest.raises(BrokenPluginError) as caught:
            load_spec(REWARD, "acme")
        message = str(caught.value)
        assert message.startswith("reward function 'acme' from acme-reward 1.0")
        assert cause in message
        assert "\n" not in message

    def test_an_entry_point_without_an_attribute_is_a_broken_plugin(self, install):
        install("acme-reward", {GROUP: {"acme": "acme_plugin"}}, {"acme_plugin": description()})
        with pytest.raises(BrokenPluginError, match=r"from acme-reward 1\.0"):
            load_spec(REWARD, "acme")

    @pytest.mark.parametrize(
        ("version", "advice"),
        [(PLUGIN_API_VERSION + 1, "upgrade rlkit-llm"), (PLUGIN_API_VERSION - 1, "upgrade acme-reward")],
    )
    def test_another_plugin_api_says_what_to_upgrade(self, acme, version, advice):
        acme(description(f", api_version={version}"))
        with pytest.raises(BrokenPluginError, match=f"made for plugin API {version}, .*; {advice}$"):
            load_plugin(REWARD, "acme")

    @pytest.mark.parametrize(
        ("hint", "advice"), [("", "pip install no_such_module"), (", install_hint='see the manual'", "see the manual")]
    )
    def test_missing_modules_are_named_before_the_target_is_imported(self, acme, hint, advice):
        acme(description(f", requires=('json', 'no_such_module'){hint}"))
        with pytest.raises(MissingRequirementError, match=f"needs no_such_module; {advice}$"):
            load_plugin(REWARD, "acme")
        assert "acme_target" not in sys.modules


class TestTarget:
    def test_a_loaded_plugin_knows_where_it_comes_from(self, acme):
        acme(description())
        plugin = load_plugin(REWARD, "acme")
        assert (plugin.distribution, plugin.version, plugin.name) == ("acme-reward", "1.0", "acme")
        assert plugin.target(1) == ((1,), {})
        assert plugin.options_class is None

    def test_a_target_that_fails_names_distribution_and_cause(self, acme):
        acme(description(), target="1 / 0")
        with pytest.raises(BrokenPluginError, match=r"acme-reward 1\.0 failed to load its target .*ZeroDivisionError"):
            load_plugin(REWARD, "acme")

    def test_without_options_any_option_is_refused(self, acme):
        acme(description())
        with pytest.raises(ConfigError, match=r"reward\.options"):
            build_plugin(REWARD, "acme", {"strength": 3}, where="reward.options")

    def test_options_are_parsed_and_given_first(self, acme):
        acme(description(", config='acme_target:Options'"))
        (options,), context = build_plugin(REWARD, "acme", {"strength": 5}, where="reward.options", seed=1)
        assert options.strength == 5
        assert context == {"seed": 1}

    def test_an_unknown_option_is_refused_with_its_full_key_and_a_suggestion(self, acme):
        acme(description(", config='acme_target:Options'"))
        with pytest.raises(ConfigError, match=r"reward\.options\.strenght.*strength"):
            build_plugin(REWARD, "acme", {"strenght": 5}, where="reward.options")

    def test_a_broken_options_class_names_the_plugin(self, acme):
        acme(description(", config='acme_target:Missing'"))
        with pytest.raises(BrokenPluginError, match=r"acme-reward 1\.0 failed to load its options acme_target:Missing"):
            load_plugin(REWARD, "acme")


def test_a_file_works_wherever_a_name_does(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def score(response):\n    return 1.0\n")
    plugin = load_plugin(REWARD, f"{path}:score")
    assert plugin.target("x") == 1.0
    assert (plugin.distribution, plugin.version) == ("(file)", "")


def test_a_module_works_wherever_a_name_does():
    plugin = load_plugin(REWARD, "os.path:basename")
    assert plugin.distribution == "(module)"
    assert plugin.target("a/b") == "b"
