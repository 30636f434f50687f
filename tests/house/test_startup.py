"""What a command may import before it has something to do: nothing heavy, and nothing that only a run needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rlkit.cli.command_table import COMMANDS
from rlkit.cli.main import load_command

HEAVY = {
    "torch",
    "transformers",
    "ray",
    "vllm",
    "datasets",
    "numpy",
    "pyarrow",
    "tokenizers",
    "pydantic",
    "pydantic_settings",
    "yaml",
}
OURS = ("rlkit.config", "rlkit.types", "rlkit.pipelines", "rlkit.models", "rlkit.data", "rlkit.algos", "rlkit.testing")

WATCH = """
import json, sys
from rlkit.cli.main import main
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    """Modules that one command has imported when it is done; it must succeed."""
    result = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    content = json.loads(result.stderr.splitlines()[-1])
    assert content["code"] == 0, result.stderr
    return set(content["modules"])


def help_commands() -> list[tuple[str, ...]]:
    """`--help` of every command and of every command inside a group."""
    found: list[tuple[str, ...]] = []
    for entry in COMMANDS:
        found.append((entry.name, "--help"))
        inner = getattr(load_command(entry), "commands", {})
        found += [(entry.name, name, "--help") for name in inner]
    return found


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)], ids=" ".join)
def test_the_front_page_imports_next_to_nothing(arguments):
    assert not imported(*arguments) & (HEAVY | {"rich", "pluggy"})


@pytest.mark.parametrize(
    "arguments", [*help_commands(), ("plugins", "list"), ("plugins", "list", "--json")], ids=" ".join
)
def test_help_and_the_list_of_plugins_import_nothing_heavy(arguments):
    modules = imported(*arguments)
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(OURS)]


def test_listing_plugins_imports_none_of_them():
    modules = imported("plugins", "list")
    assert not [name for name in modules if name.startswith("rlkit_")]
    assert "rlkit.tracking.plugins" not in modules


def test_every_group_is_looked_into():
    commands = help_commands()
    assert ("train", "ppo", "--help") in commands
    assert ("plugins", "check", "--help") in commands
