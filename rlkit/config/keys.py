"""The keys that a section class has, as dotted paths."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class that a field holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next((found for found in map(section_of, get_args(annotation)) if found is not None), None)
    return None


def leaf_keys(section_class: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of everything under `section_class` that is not itself a section."""
    for name, field in section_class.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            yield from leaf_keys(inner, f"{prefix}{name}.")


def meanings_of(section_class: type[BaseModel]) -> dict[str, str]:
    """What each of `leaf_keys` does, in the first sentence of its description."""
    return {key: (field.description or "").partition(". ")[0] for key, field in leaf_keys(section_class)}


def children_of(section_class: type[BaseModel], path: str) -> list[str]:
    """Names of the keys directly under the dotted `path` ("" is the top)."""
    current: type[BaseModel] | None = section_class
    for part in filter(None, path.split(".")):
        field = current.model_fields.get(part) if current is not None else None
        current = None if field is None else section_of(field.annotation)
    return [] if current is None else list(current.model_fields)


def flatten(tree: dict[str, Any], section_class: type[BaseModel] | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a nested dict; tables that are values of one key (such as options) stay whole."""
    for name, value in tree.items():
        field = None if section_class is None else section_class.model_fields.get(name)
        inner = None if field is None else section_of(field.annotation)
        if isinstance(value, dict) and inner is not None:
            yield from flatten(value, inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
