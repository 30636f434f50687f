"""Paths in a project file are relative to that file, wherever the command is typed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rlkit.config.base import ProjectPath
from rlkit.config.keys import leaf_keys
from rlkit.config.option_paths import change_option_paths
from rlkit.config.sources import Source


def resolve_paths(config_class: type[BaseModel], source: Source, folder: Path) -> Source:
    """The source with path values made relative to `folder`, the project file's."""
    if folder == Path():
        return source
    values = _copied(source.values)
    for key, field in leaf_keys(config_class):
        mark = next((item for item in field.metadata if isinstance(item, ProjectPath)), None)
        if mark is None:
            continue
        if not mark.must_exist and field.default:
            # Where a run leaves things must not depend on where the command is typed either.
            _fill(values, key.split("."), field.default)
        _change(values, key.split("."), partial(_beside, folder=folder, mark=mark))
    change_option_paths(
        config_class, values, lambda value, mark: _changed(value, partial(_beside, folder=folder, mark=mark))
    )
    return Source(values, source.origins)


def _beside(text: str, folder: Path, mark: ProjectPath) -> str:
    place, colon, attribute = text.partition(".py:")
    if mark.reference and not colon:
        return text
    path = place + ".py" if colon else text
    if not path or Path(path).is_absolute() or path.startswith("~"):
        return text
    candidate = folder / path
    if mark.must_exist and not candidate.exists():
        return text
    return f"{candidate}:{attribute}" if colon else str(candidate)


def _fill(table: Any, parts: list[str], default: str) -> None:
    """Put `default` where the file says nothing."""
    *parents, name = parts
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            return
    table.setdefault(name, default)


def _change(table: Any, parts: list[str], change: Callable[[str], str]) -> None:
    *parents, name = parts
    for parent in parents:
        table = table.get(parent) if isinstance(table, dict) else None
    if not isinstance(table, dict) or name not in table:
        return
    table[name] = _changed(table[name], change)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Texts changed, inside lists and tables too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    return value


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
