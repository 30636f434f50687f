"""Whether what a program printed or returned is what was expected. Runs outside the sandbox, on plain data."""

from __future__ import annotations

import math
import re
from typing import Any

_DECIMAL = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?")
"""An expected number that allows a tolerance: whole numbers do not."""
MAX_NUMBER_CHARACTERS = 60


def same_output(actual: str, expected: str, *, tolerance: float) -> bool:
    """Equal line by line; white space at the ends of lines, its amount within them, and empty lines do not count.

    A number that is expected with a decimal point may differ by `tolerance`, absolute or relative.
    """
    actual_lines, expected_lines = _lines(actual), _lines(expected)
    if actual_lines == expected_lines:
        return True
    if len(actual_lines) != len(expected_lines):
        return False
    pairs = zip(actual_lines, expected_lines, strict=True)
    return all(_same_line(given, wanted, tolerance) for given, wanted in pairs)


def same_value(actual: Any, expected: Any, *, tolerance: float) -> bool:
    """Equal as JSON sees them: tuples are lists, keys of dicts are texts; floats may differ by `tolerance`."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(expected, float) and isinstance(actual, int | float):
        return _close(actual, expected, tolerance)
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(actual) == len(expected)
            and all(same_value(a, e, tolerance=tolerance) for a, e in zip(actual, expected, strict=True))
        )
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or len(actual) != len(expected):
            return False
        by_text = {_key_text(key): value for key, value in actual.items()}
        return all(
            str(key) in by_text and same_value(by_text[str(key)], value, tolerance=tolerance)
            for key, value in expected.items()
        )
    return bool(actual == expected)


def _key_text(key: Any) -> str | None:
    try:
        return str(key)
    except ValueError:  # an integer of more digits than Python writes
        return None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _same_line(actual: str, expected: str, tolerance: float) -> bool:
    given, wanted = actual.split(" "), expected.split(" ")
    return len(given) == len(wanted) and all(_same_word(g, w, tolerance) for g, w in zip(given, wanted, strict=True))


def _same_word(actual: str, expected: str, tolerance: float) -> bool:
    if actual == expected:
        return True
    if not tolerance or len(actual) > MAX_NUMBER_CHARACTERS or not _DECIMAL.fullmatch(expected):
        return False
    try:
        return _close(float(actual), float(expected), tolerance)
    except ValueError:
        return False


def _close(actual: float, expected: float, tolerance: float) -> bool:
    try:
        return actual == expected or (
            math.isfinite(actual) and math.isclose(actual, expected, rel_tol=tolerance, abs_tol=tolerance)
        )
    except OverflowError:  # an integer that no float can hold
        return False
