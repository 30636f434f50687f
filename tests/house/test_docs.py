"""Everything that a user can type or set is documented, and the pages say what the code does."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.cli.command_table import COMMANDS
from rlkit.cli.main import load_command
from rlkit.config.explain import describe_keys
from rlkit.plugin.describe import describe_plugin
from rlkit.plugin.discovery import installed_plugins, plugin_names
from rlkit.plugin.hooks import HOOK_NAMES
from rlkit.plugin.hookspecs import RunHooks
from rlkit.plugin.spec import PluginKind

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"


def commands() -> Iterator[tuple[str, Any]]:
    def flatten(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if not inner:
            yield name, command
        for inner_name, inner_command in (inner or {}).items():
            yield from flatten(f"{name} {inner_name}", inner_command)

    for entry in COMMANDS:
        yield from flatten(f"rlkit {entry.name}", load_command(entry))


ALL_COMMANDS = dict(commands())


def test_generated_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_and_every_option_has_a_help_text(name):
    command = ALL_COMMANDS[name]
    assert command.help and len(command.help) > 10, f"{name} has no help"
    with command.make_context(name, [], resilient_parsing=True) as context:
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            assert record and record[1].strip(), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_and_option_is_in_the_reference(name):
    page = (DOCS / "cli.md").read_text()
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    with ALL_COMMANDS[name].make_context(name, [], resilient_parsing=True) as context:
        for parameter in ALL_COMMANDS[name].get_params(context):
            for spelling in parameter.opts:
                assert not spelling.startswith("-") or spelling in section


@pytest.mark.parametrize("key", describe_keys(), ids=lambda key: f"{key.key}-{'-'.join(key.kinds)}")
def test_every_config_key_is_documented(key):
    assert len(key.doc) > 10, f"{key.key} has no docstring"
    assert f"**`{key.key}`**" in (DOCS / "config.md").read_text()


@pytest.mark.parametrize("event", HOOK_NAMES)
def test_every_run_event_is_documented(event):
    assert inspect.getdoc(getattr(RunHooks, event))
    assert f"**`{event}(" in (DOCS / "hooks.md").read_text()


MISSING_IN_CI = (("mlflow",), ("trackio",))
"""Packages that are too much to download for the tests; the options of plugins that need them can be read all the same."""


@pytest.mark.parametrize("plugin", installed_plugins(), ids=lambda plugin: f"{plugin.kind.value}-{plugin.name}")
def test_every_plugin_and_each_of_its_options_is_described(plugin):
    description = describe_plugin(plugin)
    if description.missing == ("vllm",):
        pytest.skip("vLLM is not installed here, so the plugin's options cannot be read")
    assert not description.problem or description.missing in MISSING_IN_CI
    assert description.options or description.name not in ("mlflow", "trackio")
    assert description.summary
    assert all(len(option.doc) > 10 for option in description.options)


@pytest.mark.parametrize("kind", [PluginKind.ADVANTAGE_ESTIMATOR, PluginKind.POLICY_LOSS])
def test_every_estimator_and_every_loss_has_its_formula_and_source(kind):
    rows = [line for line in (DOCS / "algorithms.md").read_text().splitlines() if line.startswith("| `")]
    for name in plugin_names(kind):
        own = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert any("arXiv:" in row for row in own), f"docs/algorithms.md has no row with a source for {name}"


@pytest.mark.parametrize("kind", PluginKind)
def test_every_kind_of_plugin_has_a_page(kind):
    assert (DOCS / "plugins" / f"{kind.value}.md").is_file()
    assert f"{kind.value}.md" in (DOCS / "plugins" / "index.md").read_text()


@pytest.mark.parametrize(
    "page", sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")]), ids=lambda page: str(page.relative_to(REPOSITORY))
)
def test_links_inside_the_documentation_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_page_can_be_reached_from_the_readme(page):
    seen: set[Path] = set()
    todo = [REPOSITORY / "README.md"]
    while todo:
        current = todo.pop()
        if current in seen or not current.is_file():
            continue
        seen.add(current)
        links = re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", current.read_text())
        todo += [(current.parent / link).resolve() for link in links if not link.startswith("http")]
    assert page.resolve() in seen
