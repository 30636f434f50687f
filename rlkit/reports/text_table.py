"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two spaces between them; those in `right` end flush."""
    table = [head, *rows]
    widths = [max(map(shown_width, column)) for column in zip(*table, strict=True)]

    def padded(cell: str, column: int) -> str:
        room = " " * (widths[column] - shown_width(cell))
        return room + cell if column in right else cell + room

    return "\n".join("  ".join(padded(cell, at) for at, cell in enumerate(row)).rstrip() for row in table)


def shown_width(text: str) -> int:
    """Columns of a terminal."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
