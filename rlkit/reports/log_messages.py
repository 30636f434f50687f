"""What a run complained about: the warnings and errors of its log.txt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 8_000_000
"""Of the end of the log that is read."""
MAX_MESSAGES = 200
MAX_TEXT = 4_000
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ([A-Z]+) (.*)")


@dataclass
class LogMessage:
    """One complaint; `count` equal ones, from `first` to `last` (local time of the run)."""

    level: str
    text: str
    first: str
    last: str
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_messages(log: Path) -> list[LogMessage]:
    """Warnings and errors, in the order of their first appearance, the newest MAX_MESSAGES different ones; empty without a log."""
    found: dict[tuple[str, str], LogMessage] = {}
    for time, level, text in _entries(log):
        if level not in {"WARNING", "ERROR", "CRITICAL"}:
            continue
        known = found.setdefault((level, text), LogMessage(level, text, time, time, 0))
        known.last = time
        known.count += 1
    return list(found.values())[-MAX_MESSAGES:]


def _entries(log: Path) -> Iterator[tuple[str, str, str]]:
    """(time, level, text); lines without a time, as those of a traceback, belong to the entry before."""
    entry: tuple[str, str, list[str]] | None = None
    for line in _tail(log):
        match = _LINE.fullmatch(line)
        if match is None:
            if entry is not None:
                entry[2].append(line)
            continue
        if entry is not None:
            yield entry[0], entry[1], _shortened("\n".join(entry[2]))
        entry = (match[1], match[2], [match[3]])
    if entry is not None:
        yield entry[0], entry[1], _shortened("\n".join(entry[2]))


def _tail(log: Path) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_BYTES))
        return file.read().decode("utf-8", errors="replace").splitlines()


def _shortened(text: str) -> str:
    """The end of a long message is worth more than its middle: that is where a traceback names the error."""
    if len(text) <= MAX_TEXT:
        return text.rstrip()
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}".rstrip()
