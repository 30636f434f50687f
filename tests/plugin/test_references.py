from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlkit.errors import BrokenPluginError, PluginNotFoundError
from rlkit.plugin.references import describe_error, is_file_reference, is_reference, load_reference


@pytest.fixture
def write(tmp_path: Path):
    def make(source: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    return make


@pytest.mark.parametrize(
    ("name", "reference", "file"),
    [("gsm8k", False, False), ("a.py:f", True, True), ("pkg.mod:f", True, False), ("C:\\a.py:f", True, True)],
)
def test_names_and_references_are_told_apart(name, reference, file):
    assert is_reference(name) == reference
    assert is_file_reference(name) == file


def test_a_function_of_a_file_is_found(write):
    assert load_reference(f"{write('def f(): return 1')}:f")() == 1


def test_an_attribute_of_an_attribute_is_found(write):
    path = write("class A:\n    b = 7")
    assert load_reference(f"{path}:A.b") == 7


def test_a_file_is_run_once_however_it_is_spelled(write, monkeypatch):
    path = write("made = []")
    monkeypatch.chdir(path.parent)
    assert load_reference("mine.py:made") is load_reference(f"{path}:made")


def test_files_of_the_same_name_are_different_modules(write):
    first, second = write("x = 1", "a/mine.py"), write("x = 2", "b/mine.py")
    assert (load_reference(f"{first}:x"), load_reference(f"{second}:x")) == (1, 2)


def test_a_file_may_import_its_neighbour_and_leaves_the_path_as_it_was(write):
    write("value = 5", "neighbour_of_mine.py")
    path = write("from neighbour_of_mine import value")
    before = list(sys.path)
    assert load_reference(f"{path}:value") == 5
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:f", "file nowhere.py does not exist"),
        ("no_such_module_at_all:f", "there is no module no_such_module_at_all"),
        ("json.nothing:f", "there is no module json.nothing"),
        ("json:nothing", "json has no 'nothing'; it has: "),
        (":f", "is not a reference"),
        ("json:", "is not a reference"),
    ],
)
def test_what_does_not_exist_is_said_to_be_missing(name, message):
    with pytest.raises(PluginNotFoundError) as caught:
        load_reference(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_file_that_fails_is_broken_not_missing(write, source, cause):
    path = write(source)
    for _ in range(2):  # a failed import must not leave half a module behind
        with pytest.raises(BrokenPluginError) as caught:
            load_reference(f"{path}:f")
        assert cause in str(caught.value)


def test_errors_are_described_on_one_line():
    assert describe_error(ValueError("a\n  b")) == "ValueError: a b"
    assert describe_error(KeyboardInterrupt()) == "KeyboardInterrupt"
