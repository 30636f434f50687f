from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rlkit.cli.plugins import plugins_app
from rlkit.errors import ConfigError, PluginConflictError, PluginError, PluginNotFoundError
from rlkit.plugin.spec import PluginKind


def plugins(*arguments: str):
    return CliRunner().invoke(plugins_app, list(arguments))


class TestList:
    def test_the_table_has_kind_name_distribution_version_and_state(self):
        lines = [line.split() for line in plugins("list").stdout.splitlines()]
        assert lines[0] == ["kind", "name", "distribution", "version", "state"]
        assert {len(line) for line in lines} == {5}
        assert ("rollout_engine", "hf", "rlkit-hf") in {tuple(line[:3]) for line in lines}

    def test_json_has_the_same_rows(self):
        rows = json.loads(plugins("list", "--json").stdout)
        assert [list(row.values()) for row in rows] == [
            line.split() for line in plugins("list").stdout.splitlines()[1:]
        ]

    def test_one_kind_may_be_chosen(self):
        rows = json.loads(plugins("list", "--kind", "hook", "--json").stdout)
        assert {row["kind"] for row in rows} == {"hook"}
        assert {"console", "jsonl"} <= {row["name"] for row in rows}

    def test_an_unknown_kind_lists_the_kinds(self):
        error = plugins("list", "--kind", "engine").exception
        assert isinstance(error, ConfigError)
        assert str(error) == f"unknown kind 'engine'; kinds: {', '.join(PluginKind)}"

    def test_a_conflict_is_marked_on_both_and_explained(self, install):
        for distribution in ("one", "two"):
            install(distribution, {"rlkit.reward_functions": {"acme": "m:spec"}}, version="2.0")
        result = plugins("list", "--kind", "reward_function")
        states = {tuple(line.split()) for line in result.stdout.splitlines() if "acme" in line}
        assert states == {("reward_function", "acme", name, "2.0", "conflict") for name in ("one", "two")}
        assert result.stderr == "conflict: reward function 'acme' comes from one 2.0 and two 2.0\n"

    def test_a_disabled_plugin_is_listed_as_such(self, monkeypatch):
        monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", "rlkit-hf")
        rows = json.loads(plugins("list", "--json").stdout)
        assert {row["state"] for row in rows if row["distribution"] == "rlkit-hf"} == {"disabled"}
        assert {row["state"] for row in rows if row["distribution"] != "rlkit-hf"} == {"ok"}

    def test_the_columns_are_aligned(self):
        lines = plugins("list").stdout.splitlines()
        for column in ("name", "distribution", "version", "state"):
            start = lines[0].index(column)
            assert all(line[start - 1] == " " and line[start] != " " for line in lines)
        assert max(map(len, lines)) <= 100


class TestShow:
    def test_a_plugin_is_shown_with_its_options(self):
        text = plugins("show", "length").stdout
        assert text.splitlines()[0] == "length"
        assert "  kind       reward function" in text
        assert "  from       rlkit-rewards " in text
        assert "  options" in text

    def test_kind_and_name_may_be_given_together(self):
        (found,) = json.loads(plugins("show", "hook:jsonl", "--json").stdout)
        assert (found["kind"], found["name"], found["always_on"]) == ("hook", "jsonl", True)

    def test_a_name_in_two_kinds_shows_both_and_one_may_be_chosen(self, install):
        groups = {"rlkit.hooks": {"acme": "acme_plugin:hook"}, "rlkit.reward_functions": {"acme": "acme_plugin:reward"}}
        source = "from rlkit.plugin import PluginKind, PluginSpec\n" + "".join(
            f"{name} = PluginSpec(kind=PluginKind.{kind}, target='m:t', summary='As {name}.')\n"
            for name, kind in (("hook", "HOOK"), ("reward", "REWARD_FUNCTION"))
        )
        install("acme", groups, {"acme_plugin": source})
        both = plugins("show", "acme").stdout
        assert "As hook." in both and "As reward." in both
        for one in (("show", "hook:acme"), ("show", "acme", "--kind", "hook")):
            text = plugins(*one).stdout
            assert "As hook." in text and "As reward." not in text

    def test_a_plugin_that_cannot_be_read_says_why_and_where_it_comes_from(self, install):
        install(
            "acme", {"rlkit.hooks": {"acme": "acme_plugin:spec"}}, {"acme_plugin": "raise RuntimeError('no licence')"}
        )
        result = plugins("show", "acme")
        assert result.exit_code == 0
        assert "from       acme 1.0" in result.stdout
        assert "problem    hook 'acme' from acme 1.0 failed to load its entry point" in result.stdout
        assert "no licence" in result.stdout

    def test_a_missing_module_comes_with_the_way_to_get_it(self, install):
        source = (
            "from rlkit.plugin import PluginKind, PluginSpec\n"
            "spec = PluginSpec(kind=PluginKind.HOOK, target='m:t', summary='A test.', requires=('json', 'no_such_module'),"
            " install_hint='pip install acme[all]')\n"
        )
        install("acme", {"rlkit.hooks": {"acme": "acme_plugin:spec"}}, {"acme_plugin": source})
        text = plugins("show", "acme").stdout
        assert "needs      json, no_such_module (missing)" in text
        assert "install    pip install acme[all]" in text

    def test_a_wrong_name_is_met_with_a_near_one(self):
        error = plugins("show", "gsm8").exception
        assert isinstance(error, PluginNotFoundError)
        assert "Did you mean 'gsm8k'?" in str(error)


class TestCheck:
    def test_a_good_plugin_passes_every_check(self):
        result = plugins("check", "format")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0].startswith("reward function format, rlkit-rewards ")
        assert len(lines) > 3
        assert all(line.startswith("  ✓ ") for line in lines[1:])

    def test_a_file_is_checked_when_its_kind_is_said(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text("def score(response):\n    return float(len(response))\n")
        assert plugins("check", f"{path}:score", "--kind", "reward_function").exit_code == 0
        error = plugins("check", f"{path}:score").exception
        assert isinstance(error, ConfigError)
        assert "say what it is with --kind" in str(error)

    def test_a_failing_check_is_marked_with_its_cause(self, tmp_path):
        path = tmp_path / "bad.py"
        path.write_text("def score(response):\n    raise KeyError('weights')\n")
        result = plugins("check", f"{path}:score", "--kind", "reward_function")
        assert isinstance(result.exception, PluginError)
        assert result.exception.exit_code == 3
        assert any(line.startswith("  ✗ ") and "weights" in line for line in result.stdout.splitlines())

    def test_a_plugin_that_exits_fails_its_check_and_the_others_go_on(self, tmp_path):
        path = tmp_path / "quits.py"
        path.write_text("def score(response):\n    raise SystemExit(0)\n")
        result = plugins("check", f"{path}:score", "--kind", "reward_function")
        assert isinstance(result.exception, PluginError)
        assert sum("✗" in line and "SystemExit" in line for line in result.stdout.splitlines()) > 1

    def test_a_disabled_plugin_is_not_checked(self, monkeypatch):
        monkeypatch.setenv("RLKIT_DISABLED_PLUGINS", "format")
        error = plugins("check", "format").exception
        assert isinstance(error, PluginNotFoundError)
        assert "is installed but disabled" in str(error)

    def test_of_two_providers_neither_is_checked(self, install):
        for distribution in ("one", "two"):
            install(distribution, {"rlkit.reward_functions": {"acme": "m:spec"}})
        error = plugins("check", "acme").exception
        assert isinstance(error, PluginConflictError)
        assert "one 1.0 and two 1.0" in str(error)

    @pytest.mark.parametrize("text", ["print('noise')", "import sys; print('noise', file=sys.stderr)"])
    def test_what_the_plugin_prints_does_not_tear_the_list_apart(self, tmp_path, text):
        path = tmp_path / "noisy.py"
        path.write_text(f"def score(response):\n    {text}\n    return 1.0\n")
        assert "noise" not in plugins("check", f"{path}:score", "--kind", "reward_function").stdout
