"""`rlkit plugins`: what is installed, what each plugin takes, and whether it keeps its contract."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import textwrap
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlkit.cli.command import Command
from rlkit.errors import ConfigError, PluginError, PluginNotFoundError

if TYPE_CHECKING:
    from rlkit.plugin.describe import PluginDescription
    from rlkit.plugin.discovery import InstalledPlugin
    from rlkit.plugin.loader import LoadedPlugin
    from rlkit.plugin.spec import PluginKind

plugins_app = typer.Typer(
    name="plugins",
    help="List, show and check installed plugins.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_KIND = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="model_family, rollout_engine, actor_backend, reward_function, advantage_estimator, policy_loss or hook.",
    ),
]
_NAME = Annotated[str, typer.Argument(help="Name, or kind:name when several kinds have it.")]
COLUMNS = ("kind", "name", "distribution", "version", "state")


@plugins_app.command("list", cls=Command)
def list_plugins(kind: _KIND = None, as_json: _JSON = False) -> None:
    """List installed plugins; nothing of them is imported."""
    from rlkit.plugin.discovery import installed_plugins

    wanted = _kind_of(kind)
    plugins = [plugin for plugin in installed_plugins() if wanted is None or plugin.kind is wanted]
    rows = [
        {
            "kind": plugin.kind.value,
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "state": plugin.state,
        }
        for plugin in plugins
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_table([dict(zip(COLUMNS, COLUMNS, strict=True)), *rows])
    conflicts: dict[tuple[PluginKind, str], list[str]] = {}
    for plugin in plugins:
        if plugin.state == "conflict":
            conflicts.setdefault((plugin.kind, plugin.name), []).append(plugin.origin)
    for (plugin_kind, name), origins in conflicts.items():
        typer.echo(f"conflict: {plugin_kind.label} '{name}' comes from {' and '.join(origins)}", err=True)


@plugins_app.command("show", cls=Command)
def show(name: _NAME, kind: _KIND = None, as_json: _JSON = False) -> None:
    """Show a plugin's summary, options with types and defaults, and requirements."""
    from rlkit.plugin.describe import describe_plugin

    descriptions = [describe_plugin(plugin) for plugin in _named(name, kind)]
    if as_json:
        typer.echo(json.dumps([description.as_json() for description in descriptions], indent=2))
        return
    for index, description in enumerate(descriptions):
        if index:
            typer.echo()
        _print_description(description)


@plugins_app.command("check", cls=Command)
def check(name: _NAME, kind: _KIND = None) -> None:
    """Load a plugin and run the contract suite of its kind; exit code 3 when it fails."""
    from rlkit.plugin.loader import load_found, load_plugin
    from rlkit.plugin.references import is_reference

    loaded: list[LoadedPlugin] = []
    if _names_a_place(name) and is_reference(name):
        wanted = _kind_of(kind)
        if wanted is None:
            raise ConfigError(f"'{name}' is a reference: say what it is with --kind, such as --kind reward_function")
        loaded = [load_plugin(wanted, name)]
    else:
        named = _named(name, kind)
        for plugin in named:
            if plugin.state == "ok":
                loaded.append(load_found(plugin))
            elif plugin.state == "conflict" or all(other.state == "disabled" for other in named):
                load_plugin(plugin.kind, plugin.name)  # raises, with the reason
    failures = sum(_check_one(plugin) for plugin in loaded)
    if failures:
        raise PluginError(f"{failures} check{'s' if failures > 1 else ''} failed")


def _check_one(plugin: LoadedPlugin) -> int:
    """Print one line for each check; returns how many failed."""
    from rlkit.plugin.references import describe_error
    from rlkit.testing import ContractContext, contract_checks

    typer.echo(f"{plugin.kind.label} {plugin.name}, {plugin.distribution} {plugin.version}".rstrip())
    failures = 0
    for check in contract_checks(plugin.kind):
        with tempfile.TemporaryDirectory(prefix="rlkit-check-") as folder:
            try:
                # What the plugin itself prints would tear the list of checks apart.
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    check(ContractContext(plugin, Path(folder)))
            except AssertionError as error:
                cause = " ".join(str(error).split()) or "assertion failed"
            except (Exception, SystemExit) as error:
                cause = describe_error(error)
            else:
                typer.echo(f"  ✓ {check.name}")
                continue
        failures += 1
        typer.echo(f"  ✗ {check.name}: {cause}")
    return failures


def _named(name: str, kind: str | None) -> list[InstalledPlugin]:
    """The installed plugins called `name`, of one kind or of all. Raises `PluginNotFoundError` with near names."""
    from difflib import get_close_matches

    from rlkit.plugin.discovery import installed_plugins
    from rlkit.plugin.spec import PluginKind

    prefix, colon, rest = name.partition(":")
    if colon and prefix in set(PluginKind):
        kind, name = prefix, rest
    wanted = _kind_of(kind)
    plugins = [plugin for plugin in installed_plugins() if wanted is None or plugin.kind is wanted]
    found = [plugin for plugin in plugins if plugin.name == name]
    if found:
        return found
    names = sorted({plugin.name for plugin in plugins})
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    what = "plugin" if wanted is None else wanted.label
    raise PluginNotFoundError(f"{what} '{name}' not found; installed: {', '.join(names) or '(none)'}.{hint}")


def _names_a_place(name: str) -> bool:
    """`file.py:function` and `package.module:attr`, but not `kind:name`."""
    from rlkit.plugin.spec import PluginKind

    return ":" in name and name.partition(":")[0] not in set(PluginKind)


def _kind_of(text: str | None) -> PluginKind | None:
    from rlkit.plugin.spec import PluginKind

    if text is None:
        return None
    if text not in set(PluginKind):
        raise ConfigError(f"unknown kind '{text}'; kinds: {', '.join(PluginKind)}")
    return PluginKind(text)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    widths = {column: max(len(row[column]) for row in rows) for column in COLUMNS}
    for row in rows:
        typer.echo("  ".join(row[column].ljust(widths[column]) for column in COLUMNS).rstrip())


def _print_description(description: PluginDescription) -> None:
    lines = [
        ("kind", description.kind.replace("_", " ")),
        ("from", f"{description.distribution} {description.version}"),
        ("state", description.state),
        ("problem", description.problem),
        ("summary", description.summary),
        ("target", description.target),
        ("plugin API", "" if description.api_version is None else str(description.api_version)),
        ("needs", ", ".join(_need(module, description) for module in description.requires)),
        ("install", description.install_hint if description.missing else ""),
        ("answers to", ", ".join(description.architectures)),
        ("called", "in every run" if description.always_on else ""),
        ("reads", ", ".join(need.replace("_", " ") for need in description.needs)),
        ("goes with", ", ".join(description.aggregations)),
    ]
    typer.echo(description.name)
    for label, text in lines:
        if text:
            typer.echo(f"  {label:<11}{text}")
    if description.options:
        typer.echo("  options")
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    for option in description.options:
        typer.echo(f"    {option.name} = {option.default}    ({option.type})")
        if option.doc:
            typer.echo(textwrap.fill(option.doc, width, initial_indent=" " * 8, subsequent_indent=" " * 8))
    if not description.options and not description.problem:
        typer.echo("  options    none")


def _need(module: str, description: PluginDescription) -> str:
    return f"{module} (missing)" if module in description.missing else module
