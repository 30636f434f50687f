from __future__ import annotations

import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlkit.errors import ModelError
from rlkit.models.adapter_folder import base_model_of, is_adapter_folder, merged_weights, read_adapter
from rlkit.models.safetensors_io import stream_tensors
from rlkit.testing.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def save_adapter(base, tmp_path):
    """Function: an adapter on the tiny model with both matrices drawn at random, as peft saves it; also peft's model."""

    def save(**changes):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **changes}
        adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) / 4
        adapted.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter", adapted

    return save


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3, "layers.0.self_attn.q_proj": 9}},
    ],
)
def test_merged_weights_are_those_that_peft_merges(base, save_adapter, changes):
    folder, adapted = save_adapter(**changes)
    found = dict(merged_weights(stream_tensors(base), read_adapter(folder)))
    expected = adapted.merge_and_unload().state_dict()
    before = dict(stream_tensors(base))
    assert found.keys() == before.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    assert changed == {name for name in found if "q_proj" in name or "down_proj" in name}


def test_an_adapter_folder_is_known_by_its_files_and_names_its_base_model(base, save_adapter):
    folder, _ = save_adapter()
    assert is_adapter_folder(folder)
    assert not is_adapter_folder(base)
    assert base_model_of(folder) == str(base)
    edit_config(folder, base_model_name_or_path=None)
    with pytest.raises(ModelError, match="names no base model; write its folder or Hub id"):
        base_model_of(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias = all"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = pissa"),
        ({"peft_type": "IA3"}, "peft_type = IA3"),
    ],
)
def test_an_adapter_that_is_more_than_two_matrices_is_refused_with_the_way_out(save_adapter, changes, named):
    folder, _ = save_adapter()
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match=f"{named}.*merge_and_unload"):
        read_adapter(folder)


def test_damaged_folders_are_refused_in_one_line(save_adapter):
    folder, _ = save_adapter()
    edit_config(folder, r=0)
    with pytest.raises(ModelError, match="r = 0"):
        read_adapter(folder)
    edit_config(folder, r=4)
    (folder / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"no readable adapter_model\.safetensors"):
        read_adapter(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="is not the configuration of a LoRA adapter"):
        read_adapter(folder)


def test_an_adapter_of_another_model_is_not_merged(base, save_adapter):
    adapter = read_adapter(save_adapter()[0])
    tensors = dict(stream_tensors(base))
    name = next(f"{layer}.weight" for layer in adapter.layers)
    with pytest.raises(ModelError, match=f"has no tensor '{name}'"):
        list(merged_weights([(key, value) for key, value in tensors.items() if key != name], adapter))
    with pytest.raises(ModelError, match="is it the adapter's own base model"):
        list(merged_weights({**tensors, name: tensors[name][:, :-1]}.items(), adapter))
