"""Which part of an answer is the program."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^[ \t]*(```+|~~~+(?!~))([^\n`]*)$", re.MULTILINE)
_LANGUAGE = re.compile(r"[\w+#.-]*")
PYTHON_NAMES = frozenset({"", "python", "python3", "py", "py3"})
"""Languages of a fenced block that may be Python; others count only when there is nothing else."""
END_OF_THOUGHT = "</think>"


def extract_program(response: str, *, block: str = "last", entry_point: str = "") -> str:
    """The program in an answer: a fenced block ("first" or "last"), or all of it when there is none or block = "whole".

    What precedes the end of a thought is no answer. A last block that never closes, as in an answer cut off, counts to
    the end. Among several, "last" means the last one that defines `entry_point`, if any does.
    """
    if block == "whole":
        return response
    answer = response.rpartition(END_OF_THOUGHT)[2]
    blocks = fenced_blocks(answer)
    chosen = [text for language, text in blocks if language in PYTHON_NAMES] or [text for _, text in blocks]
    if not chosen:
        return answer
    if block == "first":
        return chosen[0]
    defining = [text for text in chosen if defines(text, entry_point)]
    return (defining or chosen)[-1]


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language in lower case, content) of every fenced block, in order; an unclosed last one goes to the end."""
    blocks: list[tuple[str, str]] = []
    fence, language, start = "", "", 0
    for mark in _FENCE.finditer(text):
        named = _LANGUAGE.match(mark[2].strip(" \t"))
        info = named[0].lower() if named else ""
        if not fence:
            fence, language, start = mark[1], info, mark.end() + 1
        elif mark[1].startswith(fence) and not info:
            blocks.append((language, text[start : mark.start()]))
            fence = ""
    if fence:
        blocks.append((language, text[start:]))
    return blocks


def defines(program: str, name: str) -> bool:
    """Whether a line at the outermost level defines this function or class."""
    if not name:
        return False
    return (
        re.search(rf"^(?:async\s+def|def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", program, re.M)
        is not None
    )
