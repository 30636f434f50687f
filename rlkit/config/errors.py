"""From pydantic's complaints to one clear line each: key, value, what is expected, where it came from, the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rlkit.config import base
from rlkit.config.keys import children_of, meanings_of
from rlkit.config.option_hint import option_hint
from rlkit.config.patterns import pattern_text
from rlkit.config.suggest import keys_about, keys_called, keys_near, nearest_word
from rlkit.errors import ConfigError

AnySection = TypeVar("AnySection", bound=BaseModel)


def validate_section(
    section_class: type[AnySection],
    values: Mapping[str, Any],
    *,
    where: str = "",
    origins: Mapping[str, object] | None = None,
) -> AnySection:
    """An instance of `section_class`, or `ConfigError` with one line for each fault.

    where    dotted path of the section in the project file, put before every key
    origins  dotted key -> where its value came from, added to the message when known
    """
    try:
        return section_class.model_validate(values)
    except ValidationError as error:
        lines = [_line(section_class, details, where, origins or {}) for details in error.errors()]
        # A union complains once for each of its members.
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def refuse_options(values: Mapping[str, Any], *, where: str, plugin: str) -> None:
    """Raises `ConfigError` when options are given to a plugin that has none."""
    if values:
        raise ConfigError(f"{where}: {plugin} has no options, but got {', '.join(sorted(values))}")


def _line(section_class: type[BaseModel], details: ErrorDetails, where: str, origins: Mapping[str, object]) -> str:
    location = [str(part) for part in details["loc"]]
    local = ".".join(part for part in location if not part.startswith("function-"))
    key = ".".join(part for part in (where, local) if part)
    origin = _origin_of(key, origins)
    match details["type"]:
        case "extra_forbidden":
            hint = option_hint(section_class, local, where) or _suggestion(section_class, local, where)
            return f"unknown key {key}{_from(origin)}{hint}"
        case base.FAULT_IN_SECTION:
            return f"{key}.{details['msg']}{_from(origin)}"
        case "value_error":
            return f"{details['ctx']['error']}{_from(origin) if key else ''}"
        case "missing" if location[-1].isdigit():
            parent, _, index = key.rpartition(".")
            return (
                f"{parent}{_from(_origin_of(parent, origins))} has too few values: number {int(index) + 1} is missing"
            )
        case "missing":
            return f"{key} is required"
    return f"{key} = {_shown(details['input'])}{_from(origin)}: {_expectation(details)}"


def _expectation(details: ErrorDetails) -> str:
    """What pydantic would have accepted, without its `Input should be`."""
    if details["type"] == "tuple_type":
        return "must be a list"
    message = details["msg"].removeprefix("Input should be ").removeprefix("String should ")
    if details["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "must be a table of keys and values"
    if details["type"] == "too_long":
        return f"must have at most {details['ctx']['max_length']} values"
    if details["type"] == "string_pattern_mismatch":
        return f"must be {pattern_text(details['ctx']['pattern'])}"
    if details["type"] == "literal_error":
        return f"must be one of {details['ctx']['expected']}"
    if details["msg"].startswith("Input should be "):
        return f"must be {message}"
    if details["msg"].startswith("String should "):
        return f"must {message}"
    return message[:1].lower() + message[1:]


def _suggestion(section_class: type[BaseModel], local: str, where: str) -> str:
    parent, _, name = local.rpartition(".")
    siblings, meanings = children_of(section_class, parent), meanings_of(section_class)
    meant = keys_called(name, list(meanings), section=parent)
    near = nearest_word(name, siblings)
    if not meant and near is not None:
        meant = [f"{parent}.{near}" if parent else near]
    meant = meant or keys_about(name, meanings, section=parent) or keys_near(name, list(meanings))
    if not meant:
        return f"; keys here: {', '.join(siblings)}" if siblings else ""
    return f"; did you mean {' or '.join(f'{where}.{key}' if where else key for key in meant)}?"


def _origin_of(key: str, origins: Mapping[str, object]) -> object:
    """The origin of `key`, or of the first value under or above it."""
    if key in origins:
        return origins[key]
    below = (origin for name, origin in origins.items() if name.startswith(f"{key}."))
    above = (origin for name, origin in origins.items() if key.startswith(f"{name}."))
    return next(below, next(above, None))


def _from(origin: object) -> str:
    text = str(origin) if origin is not None else ""
    return f" ({text})" if text and text != "default" else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
