"""Code that a stranger reads: no giant files or functions, nothing left for later."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("rlkit", "plugins", "tests", "benchmarks", "docs", "templates")
    for path in (REPOSITORY / folder).rglob("*.py")
    if "{{" not in str(path)
)
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
WORDS = ("TODO", "FIXME", "XXX")
UNFINISHED = re.compile(rf"#.*\b({'|'.join(WORDS)})\b")
VAGUE = {"utils.py", "helpers.py", "common.py", "misc.py"}


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_files_are_short_enough_to_read():
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {path: number for path, number in lines.items() if number > MAX_FILE_LINES}


def test_functions_fit_the_eye():
    found = {
        f"{name(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {function: number for function, number in found.items() if number > MAX_FUNCTION_LINES}


def test_nothing_is_left_for_later():
    assert not [name(path) for path in SOURCES if UNFINISHED.search(path.read_text(encoding="utf-8"))]


def test_no_file_has_a_name_that_says_nothing():
    assert not [name(path) for path in SOURCES if path.name in VAGUE]
