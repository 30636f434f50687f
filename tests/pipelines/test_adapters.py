from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from rlkit.config.sections import LoraSection
from rlkit.pipelines.adapters import copy_adapter, given_adapter, put_on, write_adapter


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


@pytest.fixture
def located(tmp_path):
    """A base model of one tensor, and a peft folder with an adapter on it."""
    base, adapter = tmp_path / "base", tmp_path / "peft"
    base.mkdir()
    adapter.mkdir()
    save_file({"log_odds.weight": torch.tensor([[1.0, 2.0]])}, base / "model.safetensors")
    sides = {"lora_A": torch.tensor([[1.0, 10.0]]), "lora_B": torch.tensor([[3.0]])}
    tensors = {f"base_model.model.log_odds.{side}.weight": tensor for side, tensor in sides.items()}
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return SimpleNamespace(folder=base, adapter=adapter)


class Engine:
    takes_adapters = False

    def update_weights(self, named_tensors, version):
        self.weights, self.version = dict(named_tensors), version

    def update_adapter(self, adapter, version):
        self.adapter, self.version = adapter, version


def test_an_engine_without_adapters_gets_the_merged_base_model(located):
    engine = Engine()
    put_on(engine, given_adapter(located))
    assert engine.weights["log_odds.weight"].tolist() == [[1.0 + 2 * 3, 2.0 + 2 * 30]]
    assert engine.version == 0


def test_an_engine_with_adapters_gets_it_alone(located):
    engine = Engine()
    engine.takes_adapters = True
    adapter = given_adapter(located)
    put_on(engine, adapter)
    assert engine.adapter is adapter.weights
    assert (adapter.rank, adapter.weights.scale) == (1, 2.0)
    assert not hasattr(engine, "weights")


def test_without_an_adapter_the_engine_is_left_alone(located):
    located.adapter = None
    assert given_adapter(located) is None
    put_on(Engine(), None)
