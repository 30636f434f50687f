"""`rlkit config`: what a project file comes to, what a key means, and a schema for editors."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlkit.cli.command import Command
from rlkit.cli.run_options import Assignments

if TYPE_CHECKING:
    from rlkit.config.explain import KeyDescription

config_app = typer.Typer(
    name="config",
    help="Show, explain and describe configuration.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_KIND = Annotated[str | None, typer.Option("--kind", help="Kind of run: sft, ppo, generate or eval.")]
VALUE_WIDTH = 44
"""Longer values are shown on a line of their own, so that origins stay aligned."""


@config_app.command("show", cls=Command)
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Project file (TOML or YAML).")],
    kind: _KIND = None,
    assignments: Assignments = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out values that are defaults.")] = False,
    as_json: _JSON = False,
) -> None:
    """Print every resolved value of a project file, each with where it came from."""
    from rlkit.config.describe import value_text
    from rlkit.config.keys import leaf_keys
    from rlkit.config.kind import kind_of_file
    from rlkit.config.load import load_config

    resolved = load_config(kind or kind_of_file(file), file, assignments=assignments or ())
    tree = resolved.config.model_dump(mode="json")
    rows: list[tuple[str, object, str]] = []
    for key, _ in leaf_keys(type(resolved.config)):
        value: object = tree
        for part in key.split("."):
            assert isinstance(value, dict)
            value = value[part]
        origin = resolved.origins[key]
        if not (changed and origin.kind == "default"):
            rows.append((key, value, str(origin)))
    if as_json:
        values = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        typer.echo(json.dumps({"kind": resolved.kind, "values": values}, indent=2))
        return
    _print_values([(key, value_text(value), origin) for key, value, origin in rows])


@config_app.command("schema", cls=Command)
def schema(kind: Annotated[str, typer.Argument(metavar="KIND", help="sft, ppo, generate or eval.")]) -> None:
    """Print the JSON Schema of a kind of project file, for editors."""
    from rlkit.config.schema import json_schema

    typer.echo(json.dumps(json_schema(kind), indent=2))


@config_app.command("explain", cls=Command)
def explain(
    key: Annotated[str, typer.Argument(help="Key such as actor.lr, or a section such as actor.")],
    kind: _KIND = None,
    as_json: _JSON = False,
) -> None:
    """Say what a key does, what it may be, and every way to set it."""
    from rlkit.config.explain import explain as explain_key

    found = explain_key(key, kind or "")
    if as_json:
        typer.echo(json.dumps([item.as_json() for item in found], indent=2))
        return
    for index, item in enumerate(found):
        if index:
            typer.echo()
        _print_key(item, brief=len(found) > 1 and len({item.key for item in found}) > 1)


def _print_values(rows: list[tuple[str, str, str]]) -> None:
    section = ""
    width = max((len(value) for _, value, _ in rows if len(value) <= VALUE_WIDTH), default=0)
    name_width = max((len(key.partition(".")[2]) for key, _, _ in rows), default=0)
    for key, value, origin in rows:
        top, _, name = key.partition(".")
        if top != section:
            typer.echo(f"{'' if not section else chr(10)}[{top}]")
            section = top
        if len(value) > width:
            typer.echo(f"{name:<{name_width}} = {value}")
            typer.echo(f"{'':<{name_width}}   {'':<{width}}  # {origin}")
        else:
            typer.echo(f"{name:<{name_width}} = {value:<{width}}  # {origin}")


def _print_key(item: KeyDescription, *, brief: bool) -> None:
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    typer.echo(f"{item.key} = {item.default}    ({item.type})")
    typer.echo(textwrap.fill(item.doc, width, initial_indent="  ", subsequent_indent="  "))
    if brief:
        return
    typer.echo(f"  in           {', '.join(item.kinds)}")
    section, _, name = item.key.rpartition(".")
    typer.echo(f"  file         [{section}]  {name} = ...")
    typer.echo(f"  environment  {item.variable}=...")
    typer.echo(f"  command      --set {item.key}=...")
    choices = item.choices() if item.selects else ()
    if choices:
        typer.echo("  installed")
        name_width = max(len(name) for name, _ in choices)
        for name, text in choices:
            typer.echo(
                textwrap.fill(
                    text,
                    width,
                    initial_indent=f"    {name:<{name_width}}  ",
                    subsequent_indent=" " * (name_width + 6),
                )
            )
