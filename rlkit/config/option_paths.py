"""Paths among the options of plugins: relative to the project file as well, where an options class marks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from rlkit.config.base import OptionsOf, ProjectPath
from rlkit.config.keys import section_of
from rlkit.config.option_hint import option_tables
from rlkit.errors import PluginError
from rlkit.plugin.spec import PluginKind

Change = Callable[[Any, ProjectPath], Any]
"""From a value (a text, or lists and tables of them) and its field's mark to the value to use."""

_REFERENCE = ProjectPath(reference=True)


def change_option_paths(section_class: type[BaseModel], values: dict[str, Any], change: Change) -> None:
    """Change, in place, each path among the options that `values`, the tables of a project file, give to plugins.

    Options of plugins that are not installed, or have no options class, stay as they are: whoever loads them complains.
    """
    for name, field in section_class.model_fields.items():
        held = values.get(name)
        inner = section_of(field.annotation)
        if isinstance(held, dict) and inner is not None:
            change_option_paths(inner, held, change)
    for kind, plugin, options in _given_options(section_class, values, change):
        options_class = _options_class(kind, plugin)
        if options_class is None:
            continue
        for name, field in options_class.model_fields.items():
            mark = next((item for item in field.metadata if isinstance(item, ProjectPath)), None)
            if mark is not None and name in options:
                options[name] = change(options[name], mark)
        change_option_paths(options_class, options, change)


def _given_options(
    section_class: type[BaseModel], values: dict[str, Any], change: Change
) -> Iterator[tuple[PluginKind, str, dict[str, Any]]]:
    """Kind and name of each plugin that is given options directly in this section, and these."""
    fields = section_class.model_fields
    for name, field in fields.items():
        held = values.get(name)
        mark = next((item for item in field.metadata if isinstance(item, OptionsOf)), None)
        if mark is not None and isinstance(held, dict):
            # A plugin may be `file.py:attribute`, which changes where it is named, too.
            values[name] = held = {change(plugin, _REFERENCE): options for plugin, options in held.items()}
            yield from ((mark.kind, plugin, options) for plugin, options in held.items() if isinstance(options, dict))
    for name, table, kind in option_tables(section_class):
        plugin, options = values.get(name, fields[name].default), values.get(table)
        if isinstance(plugin, str) and isinstance(options, dict):
            yield kind, plugin, options


def _options_class(kind: PluginKind, plugin: str) -> type[BaseModel] | None:
    from rlkit.plugin.loader import find_plugin, read_options_class, read_spec

    try:
        found = find_plugin(kind, plugin)
        return read_options_class(found, read_spec(found))
    except PluginError:
        return None
