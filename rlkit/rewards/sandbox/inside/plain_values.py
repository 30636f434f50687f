"""Plain data as JSON and back: what may cross the line between a program and those who judge it.

Whatever the program's process sends, what arrives is made of exact built-in types: an object that claims to equal
everything does not get across. Numbers, text, lists and None are themselves; everything else is an object with one key:

    {"t": [...]} tuple   {"s": [...]} set   {"z": [...]} frozenset   {"d": [[key, value], ...]} dict   {"b": hex} bytes
    {"c": [re, im]} complex   {"x": hex} an integer of more than 53 bits   {"h": number} an object that stays where it is
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LARGEST_JSON_INT = 2**53
"""Larger integers travel as hex: Python refuses to read decimal ones of more than 4,300 digits."""

Foreign = Callable[[Any], int | None]
"""The number under which an object is known that stays on its side, or None."""


class NotPlainError(TypeError):
    """A value that has no plain form."""


def encode(value: Any, foreign: Foreign | None = None) -> Any:
    """`value` as something that `json.dumps` takes. Raises `NotPlainError`, and `RecursionError` for one that holds itself."""
    if value is None or isinstance(value, (bool, str, float)):
        return _scalar(value)
    if isinstance(value, int):
        number = int(value)
        return number if abs(number) < LARGEST_JSON_INT else {"x": hex(number)}
    if isinstance(value, complex):
        return {"c": [float(value.real), float(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"b": bytes(value).hex()}
    if isinstance(value, dict):
        return {"d": [[encode(key, foreign), encode(item, foreign)] for key, item in value.items()]}
    for kind, key in ((list, ""), (tuple, "t"), (set, "s"), (frozenset, "z")):
        if isinstance(value, kind):
            items = [encode(item, foreign) for item in value]
            return {key: items} if key else items
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return encode(value.tolist(), foreign)
    number_of = None if foreign is None else foreign(value)
    if number_of is None:
        raise NotPlainError(f"a {type(value).__name__} is not plain data")
    return {"h": number_of}


def decode(message: Any, local: Callable[[int], Any] | None = None) -> Any:
    """The value that `encode` wrote. local: what stands for an object that stayed behind. Raises `NotPlainError`."""
    if isinstance(message, list):
        return [decode(item, local) for item in message]
    if not isinstance(message, dict):
        return message
    if len(message) != 1:
        raise NotPlainError("not a message of this protocol")
    ((key, content),) = message.items()
    try:
        return _decode_marked(key, content, local)
    except (ValueError, LookupError) as error:
        raise NotPlainError(f"not a message of this protocol: {error}") from error


def _scalar(value: Any) -> Any:
    """Without the subclass: an `IntEnum` or a `str` of one's own becomes what it looks like."""
    if value is None or isinstance(value, bool):
        return value
    return str.__str__(value) if isinstance(value, str) else float.__float__(value)


def _decode_marked(key: str, content: Any, local: Callable[[int], Any] | None) -> Any:
    if key == "d":
        return {decode(name, local): decode(item, local) for name, item in content}
    if key in ("t", "s", "z"):
        return {"t": tuple, "s": set, "z": frozenset}[key](decode(item, local) for item in content)
    if key == "x":
        return int(content, 16)
    if key == "b":
        return bytes.fromhex(content)
    if key == "c":
        return complex(content[0], content[1])
    if key == "h" and local is not None:
        return local(int(content))
    raise NotPlainError(f"unknown kind of value {key!r}")
