"""Types, defaults and ranges of config fields, as people write them."""

from __future__ import annotations

import json
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rlkit.config.patterns import pattern_text

_COMPARISONS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_NAMES = {str: "string", int: "integer", float: "number", bool: "true or false", NoneType: "nothing"}


def type_text(field: FieldInfo) -> str:
    """`number > 0`, `one of "a", "b"`, `list of string`."""
    return _type_text(field.annotation, field.metadata)


def default_text(field: FieldInfo) -> str:
    """The default as TOML has it; `required` when there is none."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    return value_text(default)


def value_text(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, float):
        text = f"{value:g}" if value == float(f"{value:g}") else repr(value)
        return text if set(text) & set(".en") else f"{text}.0"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _type_text(annotation: Any, metadata: Any = ()) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *inner_metadata = get_args(annotation)
        return _type_text(inner, [*inner_metadata, *metadata])
    if origin is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_type_text(choice) for choice in get_args(annotation))
    if origin in (tuple, list, set, frozenset):
        return _list_text(get_args(annotation))
    if origin is dict or annotation is dict:
        return "table"
    name = _NAMES.get(annotation) or getattr(annotation, "__name__", "any value").lower()
    if annotation is Any:
        name = "any value"
    limits = _limits(metadata)
    return f"{name} {limits}" if limits else name


def _list_text(items: tuple[Any, ...]) -> str:
    if not items:
        return "list"
    if len(items) == 1 or items[1] is Ellipsis:
        return f"list of {_type_text(items[0])}"
    return f"list of {len(items)}: {', '.join(_type_text(item) for item in items)}"


def _limits(metadata: Any) -> str:
    """Ranges and patterns among a field's metadata; annotations may be nested in FieldInfo objects."""
    parts: list[str] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            parts.append(_limits(item.metadata))
            continue
        for name, sign in _COMPARISONS.items():
            if getattr(item, name, None) is not None:
                parts.append(f"{sign} {getattr(item, name):g}")
        if getattr(item, "pattern", None):
            parts.append(pattern_text(item.pattern))
    return " and ".join(filter(None, parts))
