"""A user's file works on a machine that does not have it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.cluster import shipping
from rlkit.cluster.shipping import pack_files, unpacked_name
from rlkit.errors import ClusterError
from rlkit.plugin.references import load_reference


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project"
    (folder / "shipped_tools" / "deep").mkdir(parents=True)
    (folder / "runs").mkdir()
    (folder / "engine.py").write_text(
        "from shipped_word import WORD\nfrom shipped_tools.deep.more import MORE\nSAID = WORD + MORE\n"
    )
    (folder / "shipped_word.py").write_text("WORD = 'hello '\n")
    (folder / "shipped_tools" / "__init__.py").touch()
    (folder / "shipped_tools" / "deep" / "__init__.py").touch()
    (folder / "shipped_tools" / "deep" / "more.py").write_text("MORE = 'there'\n")
    (folder / "runs" / "big.py").write_text("# not a package, so nothing imports it\n")
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("shipped_word", "shipped_tools"):
            del sys.modules[name]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(shipping.tempfile, "gettempdir", lambda: str(folder))
    return folder


def test_only_files_are_shipped(project: Path) -> None:
    name = f"{project}/engine.py:SAID"
    assert set(pack_files(["hf", "package.module:thing", name])) == {name}
    assert unpacked_name("hf", None) == "hf"


def test_where_the_file_is_it_is_used_in_place(project: Path, elsewhere: Path) -> None:
    name = f"{project}/engine.py:SAID"
    assert unpacked_name(name, pack_files([name])[name]) == name
    assert not list(elsewhere.iterdir())


def test_a_machine_without_the_file_gets_it_with_what_it_imports(project: Path, elsewhere: Path) -> None:
    name = f"{project}/engine.py:SAID"
    shipped = pack_files([name])[name]
    shutil.rmtree(project)
    there = unpacked_name(name, shipped)
    assert there.startswith(str(elsewhere))
    assert load_reference(there) == "hello there"
    assert not list(elsewhere.rglob("big.py"))
    assert unpacked_name(name, shipped) == there


def test_another_version_of_the_file_on_the_machine_is_not_taken(project: Path, elsewhere: Path) -> None:
    name = f"{project}/engine.py:SAID"
    shipped = pack_files([name])[name]
    (project / "shipped_word.py").write_text("WORD = 'changed '\n")
    there = Path(unpacked_name(name, shipped).rpartition(":")[0])
    assert there.is_relative_to(elsewhere)
    assert there.with_name("shipped_word.py").read_text() == "WORD = 'hello '\n"


def test_a_relative_reference_is_found_from_anywhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    shipped = pack_files(["engine.py:SAID"])["engine.py:SAID"]
    monkeypatch.chdir("/")
    assert unpacked_name("engine.py:SAID", shipped) == f"{project}/engine.py:SAID"


def test_a_folder_that_is_no_code_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MAX_SHIPPED_BYTES", 10)
    with pytest.raises(ClusterError, match="move it into a folder of its own"):
        pack_files([f"{project}/engine.py:SAID"])


def test_copies_are_named_after_their_content(project: Path) -> None:
    name = f"{project}/engine.py:SAID"
    shipped = pack_files([name])[name]
    assert shipped.digest != replace(shipped, files=shipped.files[1:]).digest
