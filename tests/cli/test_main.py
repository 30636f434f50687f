"""The command line as a process: what it prints where, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from rlkit import __version__
from rlkit.cli.command_table import COMMANDS
from rlkit.cli.main import load_command

COMMAND = [sys.executable, "-m", "rlkit"]


def rlkit(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def flat(text: str) -> str:
    return " ".join(text.split())


class TestHelp:
    def test_every_command_is_listed_with_its_summary(self):
        result = rlkit("--help")
        assert result.returncode == 0
        for entry in COMMANDS:
            assert f"{entry.name} {entry.summary}" in flat(result.stdout)

    def test_no_arguments_show_the_help(self):
        result = rlkit()
        assert result.returncode == 2
        assert "Usage: rlkit [OPTIONS] COMMAND" in result.stderr

    @pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
    def test_every_entry_of_the_table_loads(self, entry):
        command = load_command(entry)
        assert command.name == entry.name
        assert command.help

    def test_names_in_the_table_are_unique(self):
        assert len({entry.name for entry in COMMANDS}) == len(COMMANDS)

    def test_a_command_is_imported_only_when_it_is_used(self):
        code = (
            "import sys; from rlkit.cli import main, command_table\n"
            "try: main.app(['--help'])\n"
            "except SystemExit: pass\n"
            "print([e.name for e in command_table.COMMANDS if e.target.partition(':')[0] in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout.splitlines()[-1] == "[]"


class TestErrors:
    def test_the_version_is_on_standard_output(self):
        assert rlkit("--version").stdout == f"rlkit {__version__}\n"

    def test_an_unknown_command_names_a_near_one(self):
        result = rlkit("plugin", "list")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "error: unknown command 'plugin'; did you mean 'plugins'?\n"

    def test_an_unknown_command_unlike_any_other_lists_all(self):
        result = rlkit("xyzzy")
        assert result.returncode == 2
        for entry in COMMANDS:
            assert entry.name in result.stderr

    def test_an_unknown_option_is_a_usage_error(self):
        result = rlkit("plugins", "list", "--jsonn")
        assert result.returncode == 2
        assert result.stderr == "error: no option --jsonn; did you mean --json?\n"

    def test_an_error_is_one_line_with_the_exit_code_of_its_kind(self):
        result = rlkit("plugins", "show", "no_such_plugin")
        assert result.returncode == 3
        assert result.stderr.startswith("error: plugin 'no_such_plugin' not found")
        assert len(result.stderr.splitlines()) == 1

    @pytest.mark.parametrize("arguments", [("--debug",), ()], ids=["flag", "variable"])
    def test_debug_shows_the_traceback(self, arguments):
        variables = {} if arguments else {"RLKIT_DEBUG": "1"}
        result = rlkit(*arguments, "plugins", "show", "no_such_plugin", **variables)
        assert result.returncode != 0
        assert "Traceback" in result.stderr
        assert "PluginNotFoundError: plugin 'no_such_plugin' not found" in result.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_is_one_line(self):
        with Path("/dev/full").open("w") as full:
            result = subprocess.run(
                [*COMMAND, "plugins", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
            )
        assert result.returncode == 1
        assert result.stderr == "error: No space left on device; make room, and run the same command again\n"


class TestStopping:
    def test_a_reader_that_leaves_is_no_error(self):
        process = subprocess.Popen(
            [*COMMAND, "config", "schema", "ppo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(60) == 0

    def test_a_reader_that_never_reads_is_no_error(self):
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run([*COMMAND, "plugins", "list"], stdout=write, stderr=subprocess.PIPE, timeout=60)
        os.close(write)
        assert (result.returncode, result.stderr) == (0, b"")

    @pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
    def test_ctrl_c_exits_with_130_and_without_a_traceback(self, tmp_path: Path):
        # The plugin says that it is being loaded and then waits, so that the signal meets a running command.
        module = tmp_path / "waiting.py"
        module.write_text("import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(60)\n")
        process = subprocess.Popen(
            [*COMMAND, "plugins", "check", "waiting.py:score", "--kind", "reward_function"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "loading").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in errors


def test_every_command_of_every_group_has_a_help_text():
    for entry in COMMANDS:
        command = load_command(entry)
        for name, inner in getattr(command, "commands", {}).items():
            assert inner.help, f"rlkit {entry.name} {name}"
        assert isinstance(command, typer.main.TyperCommand | typer.main.TyperGroup)
