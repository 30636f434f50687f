"""The export that a checkpoint gets: copied where it is cheap, gathered tensor by tensor where it would be a whole model."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlkit.cluster.spread_models import SpreadTrainee
from rlkit.cluster.weight_chunks import weight_chunks
from rlkit.config.sections import ModelSection
from rlkit.errors import ModelError
from rlkit.models import shard_file
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.model_export import ModelExport
from rlkit.testing.tiny_model import tiny_model

WEIGHTS = dict(AutoModelForCausalLM.from_pretrained(tiny_model()).state_dict())
LARGEST_BYTES = max(tensor.numel() * tensor.element_size() for tensor in WEIGHTS.values())


class Group:
    """One rank, and what of its chunks is still held here."""

    size = 1

    def __init__(self) -> None:
        self.alive: list[weakref.ref[Any]] = []
        self.most_alive = 0
        self._chunks: Any = iter(())

    def call(self, method: str, name: str, chunk_bytes: int) -> None:
        assert method == "begin_export"
        self._chunks = iter(weight_chunks(WEIGHTS.items(), chunk_bytes))

    def next_chunk(self, name: str) -> Any:
        chunk = next(self._chunks, None)
        if chunk is None:
            return None
        copy = type(chunk)(chunk.places, chunk.data.copy())
        self.alive.append(weakref.ref(copy.data))
        self.most_alive = max(self.most_alive, sum(reference() is not None for reference in self.alive))
        return copy


@pytest.fixture
def export() -> ModelExport:
    return ModelExport(locate(ModelSection(path=str(tiny_model()))))


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    monkeypatch.setattr(shard_file, "HELD_BYTES", 0)
    return Group()


def spread_weights(group: Group) -> Any:
    return SpreadTrainee(group, "model", chunk_bytes=LARGEST_BYTES).export_weights()  # type: ignore[arg-type]


def test_a_spread_model_is_written_at_once_and_never_held(export: ModelExport, group: Group, tmp_path: Path) -> None:
    write = export.stage(spread_weights(group), tmp_path / "model")
    found = load_file(tmp_path / "model/model.safetensors")
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in found.items())
    assert len(group.alive) > 3
    assert group.most_alive <= 2  # the one that is written, and the one that follows it
    write()
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (tmp_path / "model/tokenizer.json").is_file()


def test_a_disk_that_refuses_leaves_no_rank_in_the_middle_of_the_export(
    export: ModelExport, group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_file.ShardFile, "_append", refuse)
    with pytest.raises(ModelError, match="No space left"):
        export.stage(spread_weights(group), tmp_path / "model")
    assert group.next_chunk("model") is None


def test_a_model_of_this_process_is_written_later(export: ModelExport, tmp_path: Path) -> None:
    write = export.stage(iter(WEIGHTS.items()), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    write()
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
