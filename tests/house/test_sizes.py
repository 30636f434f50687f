"""Code that a stranger reads: no giant files or functions, nothing left for later."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_function_fits_the_eye(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_left_for_later(path):
    assert not UNFINISHED.findall(path.read_text(encoding="utf-8"))


def test_no_file_has_a_name_that_says_nothing():
    assert not [name(path) for path in SOURCES if path.name in VAGUE]
