"""Where in a response its final answer stands."""

from __future__ import annotations

import re

MAX_BOXES = 20
"""Unclosed boxes that are passed over, from the end; more only in a response that is broken anyway."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ANSWER_IS = re.compile(r"\banswer\b(?:\s+(?:is|was|equals)\b|\s*(?::|=))\**\s*:?", re.IGNORECASE)


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
