"""Tables in plain text that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INDENT = "  "


@dataclass(frozen=True)
class TextTable:
    """The first column holds names, all others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def plain_text(table: TextTable, *, width: int = 0) -> str:
    """The table in aligned columns, without colours.

    Where it is wider than `width` (0: any) rows and columns are exchanged; where that is too wide as well, the columns
    follow each other in several blocks.
    """
    lines = _aligned([table.header, *table.rows])
    if width and max(map(len, lines)) > width:
        upright = _aligned(list(zip(table.header, *table.rows, strict=True)))
        lines = upright if max(map(len, upright)) <= width else _blocks(table, width)
    return "\n".join([table.title, "", *lines, *(f"{INDENT}{note}" for note in table.notes)])


def _blocks(table: TextTable, width: int) -> list[str]:
    """The names with as many columns as fit, then the names again with the next ones."""
    columns = list(zip(table.header, *table.rows, strict=True))
    names, *numbers = columns
    lines: list[str] = []
    while numbers:
        taken = 1
        while taken < len(numbers) and len(_aligned(_rows([names, *numbers[: taken + 1]]))[0]) <= width:
            taken += 1
        lines += [*([""] if lines else []), *_aligned(_rows([names, *numbers[:taken]]))]
        numbers = numbers[taken:]
    return lines


def _rows(columns: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(zip(*columns, strict=True))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Names to the left, numbers to the right, a rule under the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(INDENT + INDENT.join([row[0].ljust(widths[0]), *cells[1:]]))
    return [lines[0], INDENT + "-" * (len(lines[0]) - 2), *lines[1:]]
