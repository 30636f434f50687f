"""`rlkit init`: a new project or plugin from a template."""

from __future__ import annotations

from typing import Annotated

import typer

from rlkit.errors import ConfigError


def init(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Folder to create; its last part names the project.", show_default=False),
    ] = "",
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="T", help="What to copy: a name from --list.")
    ] = "quickstart",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One of the template's settings; may be given again."),
    ] = None,
    list_templates: Annotated[bool, typer.Option("--list", help="List the templates and their settings.")] = False,
) -> None:
    """Create a project or plugin from a template."""
    if list_templates:
        _list_templates()
        return
    if not name:
        raise ConfigError("rlkit init needs a NAME for the new folder, or --list to see the templates")
    from pathlib import Path

    from rlkit.pipelines.scaffold import choose_template, create_project

    target = Path(name).expanduser()
    commands = create_project(choose_template(template), target, _parse(settings or []))
    typer.echo(f"created {target} from template {template}; next:\n")
    for command in commands:
        typer.echo(f"  {command}")


def _list_templates() -> None:
    from rlkit.pipelines.scaffold import find_templates

    templates = find_templates()
    width = max(len(template.name) for template in templates)
    for template in templates:
        owner = f"[{template.distribution} {template.version}]".replace(" ]", "]")
        typer.echo(f"{template.name:<{width}}  {template.summary}  {owner}")
        if template.problem:
            continue
        for setting, meaning in template.settings.items():
            typer.echo(f"{'':<{width}}    --set {setting}=...  {meaning}")


def _parse(assignments: list[str]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: expected KEY=VALUE, for example --set package=my_plugin")
        parsed[key.strip()] = value
    return parsed
