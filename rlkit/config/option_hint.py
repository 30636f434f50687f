"""A key that is no key of a section, but an option of a plugin that the section names."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from rlkit.config.base import Selects
from rlkit.config.keys import section_of
from rlkit.errors import PluginError
from rlkit.plugin.spec import PluginKind


def option_hint(section_class: type[BaseModel], local: str, where: str) -> str:
    """`; it is an option of gae: algorithm.advantage_options.lam`, or nothing. `local` is the key's path in the section."""
    parent, _, name = local.rpartition(".")
    current: type[BaseModel] | None = section_class
    for part in filter(None, parent.split(".")):
        field = current.model_fields.get(part) if current is not None else None
        current = None if field is None else section_of(field.annotation)
    if current is None:
        return ""
    for _, table, kind in option_tables(current):
        owners = [plugin for plugin, options in _options_of(kind) if name in options]
        if owners:
            path = ".".join(part for part in (where, parent, table, name) if part)
            return f"; it is an option of {', '.join(owners)}: {path}"
    return ""


def option_tables(section_class: type[BaseModel]) -> Iterator[tuple[str, str, PluginKind]]:
    """Of each plugin that a section names alone: the key with its name, the key with its options, and its kind."""
    fields = section_class.model_fields
    for name, field in fields.items():
        mark = next((item for item in field.metadata if isinstance(item, Selects)), None)
        if mark is None or field.annotation is not str:
            continue
        table = f"{name}_options" if f"{name}_options" in fields else "options"
        if table in fields:
            yield name, table, mark.kind


def _options_of(kind: PluginKind) -> Iterator[tuple[str, frozenset[str]]]:
    from rlkit.plugin.discovery import installed_plugins
    from rlkit.plugin.loader import read_options_class, read_spec

    for plugin in installed_plugins():
        if plugin.kind is kind and plugin.state == "ok":
            try:
                options_class = read_options_class(plugin, read_spec(plugin))
            except PluginError:
                continue
            if options_class is not None:
                yield plugin.name, frozenset(options_class.model_fields)
