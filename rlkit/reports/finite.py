"""Which numbers a report can draw."""

from __future__ import annotations

from typing import Any, TypeGuard

LARGEST = 1e100
"""Of what is larger, sums and squares may have no floating-point number."""


def is_drawable(value: Any) -> TypeGuard[int | float]:
    """A number, neither NaN nor infinite nor absurdly large."""
    return isinstance(value, int | float) and abs(value) <= LARGEST
