from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rlkit.cli.plugins import plugins_app
from rlkit.errors import ConfigError, PluginError, PluginNotFoundError
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

    @pytest.mark.parametrize("text", ["print('noise')", "import sys; print('noise', file=sys.stderr)"])
    def test_what_the_plugin_prints_does_not_tear_the_list_apart(self, tmp_path, text):
        path = tmp_path / "noisy.py"
        path.write_text(f"def score(response):\n    {text}\n    return 1.0\n")
        assert "noise" not in plugins("check", f"{path}:score", "--kind", "reward_function").stdout
