from __future__ import annotations

import pytest

from rlkit.config.sections import LoraSection
from rlkit.pipelines.adapters import copy_adapter, write_adapter


class Adapted:
    def save_adapter(self, folder):
        (folder / "adapter_model.safetensors").write_text("new")


class Broken:
    def save_adapter(self, folder):
        (folder / "half").write_text("")
        raise OSError("disk full")


def test_an_adapter_replaces_the_one_before_it_whole(tmp_path):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "old").write_text("")
    with pytest.raises(OSError):
        write_adapter(Broken(), LoraSection(rank=2), target)
    assert [path.name for path in target.iterdir()] == ["old"]
    write_adapter(Adapted(), LoraSection(rank=2), target)
    assert [path.name for path in target.iterdir()] == ["adapter_model.safetensors"]


def test_without_a_rank_nothing_is_written(tmp_path):
    write_adapter(Broken(), LoraSection(), tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_s_adapter_is_copied_where_there_is_one(tmp_path):
    copy_adapter(tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    write_adapter(Adapted(), LoraSection(rank=2), tmp_path / "source")
    copy_adapter(tmp_path / "source", tmp_path / "copy")
    assert (tmp_path / "copy" / "adapter_model.safetensors").read_text() == "new"
