from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.errors import CheckpointError
from rlkit.tracking.checkpoints import MANIFEST, CheckpointStore, verify_checkpoint


def content(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "state").mkdir()
        (folder / "state" / "weights.bin").write_text(text)
        (folder / "trainer.json").write_text("{}")

    return fill


def weights(folder: Path) -> str:
    return (folder / "state" / "weights.bin").read_text()


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


class TestWriting:
    def test_a_written_checkpoint_is_found_whole(self, store):
        written = store.write(7, content("seven"))
        assert written == store.folder / "step_000007"
        assert store.newest_whole() == (7, written)
        assert weights(written) == "seven"

    def test_the_manifest_lists_every_file_with_its_size(self, store):
        manifest = json.loads((store.write(7, content("seven")) / MANIFEST).read_text())
        assert manifest["step"] == 7
        assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
            "state/weights.bin": 5,
            "trainer.json": 2,
        }

    def test_what_must_be_on_the_disk_first_is_there_before_the_checkpoint_is_whole(self, store, tmp_path, monkeypatch):
        metrics = tmp_path / "metrics.jsonl"
        metrics.write_text("lines")
        synced: list[tuple[Path, bool]] = []
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), store.path(7).exists()))

        monkeypatch.setattr(os, "fsync", noted)
        replace(store, first=(metrics, tmp_path / "missing")).write(7, content("seven"))
        assert (metrics, False) in synced and (tmp_path, False) in synced

    def test_a_failure_while_filling_leaves_the_checkpoint_before_it(self, store):
        before = store.write(1, content("one"))

        def fill(folder: Path) -> None:
            (folder / "half").write_text("half")
            raise RuntimeError("killed")

        with pytest.raises(RuntimeError, match="killed"):
            store.write(2, fill)
        assert store.steps() == [1]
        assert store.newest_whole() == (1, before)

    def test_what_a_killed_run_left_is_removed_by_the_next_checkpoint(self, store):
        store.folder.mkdir(parents=True)
        for name in (".step_000001.partial", ".step_000002.replaced"):
            (store.folder / name).mkdir()
        store.write(3, content("three"))
        assert [path.name for path in store.folder.iterdir()] == ["step_000003"]

    def test_a_checkpoint_of_the_same_step_is_replaced(self, store):
        store.write(1, content("old"))
        store.write(1, content("new"))
        assert [path.name for path in store.folder.iterdir()] == ["step_000001"]
        assert weights(store.path(1)) == "new"

    def test_while_a_checkpoint_is_filled_the_one_that_it_replaces_is_whole(self, store):
        store.write(1, content("old"))
        seen: list[str] = []

        def fill(folder: Path) -> None:
            verify_checkpoint(store.path(1))
            seen.append(weights(store.path(1)))
            content("new")(folder)

        store.write(1, fill)
        assert seen == ["old"]


class TestPruning:
    @pytest.mark.parametrize(("keep", "left"), [(1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4])])
    def test_the_newest_are_kept(self, tmp_path, keep, left):
        store = CheckpointStore(tmp_path, keep=keep)
        for step in (1, 2, 3, 4):
            store.write(step, content(str(step)))
        assert store.steps() == left

    def test_spared_ones_are_kept_beside_the_newest(self, tmp_path):
        store = CheckpointStore(tmp_path, keep=1)
        for step in (1, 2, 3, 4):
            store.write(step, content(str(step)), spare=(2,))
        assert store.steps() == [2, 4]
        store.write(5, content("5"), spare=(4,))
        assert store.steps() == [4, 5]

    def test_nothing_is_deleted_before_the_new_checkpoint_is_whole(self, tmp_path):
        store = CheckpointStore(tmp_path, keep=1)
        store.write(1, content("one"))

        def fill(folder: Path) -> None:
            assert store.steps() == [1]
            content("two")(folder)

        store.write(2, fill)
        assert store.steps() == [2]

    def test_a_damaged_later_checkpoint_never_displaces_a_whole_one(self, tmp_path):
        store = CheckpointStore(tmp_path, keep=1)
        store.write(20, content("twenty"))
        (store.path(20) / "trainer.json").unlink()
        written = store.write(15, content("fifteen"))
        assert store.newest_whole() == (15, written)

    def test_folders_that_are_no_checkpoints_are_left_alone(self, tmp_path):
        store = CheckpointStore(tmp_path, keep=1)
        (tmp_path / "step_best").mkdir()
        store.write(1, content("one"))
        store.write(2, content("two"))
        assert store.steps() == [2]
        assert (tmp_path / "step_best").is_dir()


class TestVerification:
    @pytest.fixture
    def checkpoint(self, store) -> Path:
        return store.write(5, content("weights"))

    def test_a_whole_checkpoint_passes(self, checkpoint):
        verify_checkpoint(checkpoint)

    def test_a_missing_file_is_named(self, checkpoint):
        (checkpoint / "trainer.json").unlink()
        with pytest.raises(CheckpointError, match=r"lacks trainer\.json"):
            verify_checkpoint(checkpoint)

    def test_a_shortened_file_is_named_with_both_sizes(self, checkpoint):
        (checkpoint / "state" / "weights.bin").write_text("wei")
        with pytest.raises(CheckpointError, match=r"weights\.bin has 3 bytes instead of 7"):
            verify_checkpoint(checkpoint)

    def test_a_changed_file_of_the_same_size_is_named(self, checkpoint):
        (checkpoint / "state" / "weights.bin").write_text("weightz")
        with pytest.raises(CheckpointError, match=r"weights\.bin is damaged"):
            verify_checkpoint(checkpoint)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
    def test_an_unreadable_manifest_is_a_damaged_checkpoint(self, checkpoint, text):
        (checkpoint / MANIFEST).write_text(text)
        with pytest.raises(CheckpointError, match="no readable manifest"):
            verify_checkpoint(checkpoint)

    def test_a_checkpoint_without_manifest_is_damaged(self, checkpoint):
        (checkpoint / MANIFEST).unlink()
        with pytest.raises(CheckpointError, match="no readable manifest"):
            verify_checkpoint(checkpoint)

    def test_an_empty_one_is_damaged(self, store):
        with pytest.raises(CheckpointError, match="is empty"):
            verify_checkpoint(store.write(3, lambda folder: None))

    def test_the_manifest_of_another_step_is_no_manifest(self, store, checkpoint):
        other = checkpoint.rename(store.path(6))
        verify_checkpoint(other)
        with pytest.raises(CheckpointError, match="step_000006 has the manifest of step 5"):
            verify_checkpoint(other, step=6)


def flip_a_byte(folder: Path) -> None:
    file = folder / "state" / "weights.bin"
    content = bytearray(file.read_bytes())
    content[1] ^= 1
    file.write_bytes(content)


def cut(folder: Path) -> None:
    (folder / "state" / "weights.bin").write_text("t")


def take_a_file(folder: Path) -> None:
    (folder / "trainer.json").unlink()


def take_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def cut_the_manifest(folder: Path) -> None:
    content = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(content[: len(content) // 2])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def take_the_manifest_of_another(folder: Path) -> None:
    shutil.copyfile(folder.with_name("step_000001") / MANIFEST, folder / MANIFEST)


def be_another(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("step_000001"), folder)


DAMAGES = (
    flip_a_byte, cut, take_a_file, take_the_manifest, cut_the_manifest, empty, take_the_manifest_of_another, be_another,
)  # fmt: skip


class TestNewestWhole:
    @pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
    def test_whatever_the_damage_the_one_before_is_used_and_it_is_said(self, store, caplog, damage):
        store.write(1, content("one"))
        damage(store.write(2, content("two")))
        with caplog.at_level(logging.WARNING, logger="rlkit"):
            assert store.newest_whole() == (1, store.path(1))
        (message,) = (record.getMessage() for record in caplog.records)
        assert "step_000002" in message and message.endswith("; using the one before it")

    def test_there_is_none_without_a_folder(self, store):
        assert store.newest_whole() is None
        assert store.steps() == []

    def test_damaged_ones_are_passed_over_with_a_warning(self, store, caplog):
        store.write(1, content("one"))
        shutil.rmtree(store.write(2, content("two")) / "state")
        with caplog.at_level(logging.WARNING, logger="rlkit"):
            assert store.newest_whole() == (1, store.path(1))
        assert "step_000002 lacks state/weights.bin; using the one before it" in caplog.text

    def test_a_half_written_one_is_never_seen(self, store):
        store.write(1, content("one"))
        (store.folder / ".step_000002.partial").mkdir()
        assert store.newest_whole() == (1, store.path(1))
