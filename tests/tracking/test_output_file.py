"""An output that cannot be written is refused before the work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.tracking.output_file import check_writable


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "result.json", remedy="choose another")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_an_existing_file_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    check_writable(path, remedy="choose another")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("place", "reason"), [("folder", "it is a folder"), ("file/result.json", "Not a directory|File exists")]
)
def test_a_place_that_cannot_hold_a_file_is_named_with_the_remedy(place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"cannot write .*{place}: ({reason}); choose another"):
        check_writable(tmp_path / place, remedy="choose another")
