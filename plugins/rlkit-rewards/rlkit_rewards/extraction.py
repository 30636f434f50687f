"""Where in a response its final answer stands."""

from __future__ import annotations

import re

MAX_BOXES = 20
"""Unclosed boxes that are passed over, from the end; more only in a response that is broken anyway."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ANSWER_IS = re.compile(
    r"\banswer\b\**(?:\s+(?:is|was|equals)\b|[^.\n:=]{1,40}?\s(?:is|was|equals)\b|\s*(?::|=))\**\s*:?", re.IGNORECASE
)
_DOLLARS = re.compile(r"(?<!\\)\$\$?")


def after_hashes(text: str) -> str | None:
    """What follows the last `####`, to the end of its line; None without one."""
    position = text.rfind("####")
    return None if position < 0 else text[position:].lstrip("#").lstrip(" \t*").split("\n", 1)[0]


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces are closed; None without one."""
    starts = [match.end() for match in _BOX.finditer(text)]
    for start in reversed(starts[-MAX_BOXES:]):
        depth = 1
        for brace in re.finditer(r"\\[{}]|[{}]", text[start:]):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                return text[start : start + brace.start()]
    return None


def after_answer_is(text: str) -> str | None:
    """What follows the last "answer is" or "answer:", to the end of its line; None without one."""
    found = None
    for found in _ANSWER_IS.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return None if found is None else text[found.end() :].split("\n", 1)[0]


def last_tagged(text: str) -> str | None:
    """The content of the last `<answer>...</answer>`; None without one."""
    span = _between(text, "<answer>", "</answer>")
    return None if span is None else text[span[0] : span[1]]


def last_formula(text: str) -> str | None:
    r"""The content of the last `$...$`, `$$...$$`, `\(...\)` or `\[...\]`; None without one. Prices are no formulae."""
    found = [_between(text, "\\(", "\\)"), _between(text, "\\[", "\\]"), _between_dollars(text)]
    spans = [span for span in found if span is not None]
    if not spans:
        return None
    start, end = max(spans, key=lambda span: span[1])
    return text[start:end]


def _between(text: str, opening: str, closing: str) -> tuple[int, int] | None:
    end = text.rfind(closing)
    start = text.rfind(opening, 0, max(end, 0))
    return None if start < 0 else (start + len(opening), end)


def _between_dollars(text: str) -> tuple[int, int] | None:
    """As Pandoc pairs them: no space behind the opening sign or before the closing one, and no digit behind the latter."""
    found, start = None, None
    for sign in _DOLLARS.finditer(text):
        before, after = text[sign.start() - 1 : sign.start()], text[sign.end() : sign.end() + 1]
        double = sign.end() - sign.start() == 2
        if start is not None and (double or (not before.isspace() and not after.isdigit())):
            found, start = (start, sign.start()), None
        elif double or not after.isspace():
            start = sign.end()
    return found
