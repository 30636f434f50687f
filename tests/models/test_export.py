from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkit.errors import ModelError
from rlkit.models.create import create_model
from rlkit.models.export import export_adapter, export_model
from rlkit.models.safetensors_io import stream_tensors, write_sharded


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    create_model(tmp_path / "run" / "model", family="qwen3", tokenizer="char", alphabet="0123456789")
    (tmp_path / "run" / "run.json").write_text("{}")
    return tmp_path / "run"


def test_the_copy_of_a_run_equals_its_model(run_folder: Path, tmp_path: Path) -> None:
    export_model(run_folder, tmp_path / "out", max_shard_bytes=100_000)
    token_ids = torch.tensor([[1, 7, 9, 3]])
    with torch.no_grad():
        expected, found = (
            AutoModelForCausalLM.from_pretrained(folder).eval()(token_ids).logits
            for folder in (run_folder / "model", tmp_path / "out")
        )
    assert torch.equal(expected, found)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    original, copied = (AutoTokenizer.from_pretrained(folder) for folder in (run_folder / "model", tmp_path / "out"))
    assert copied.chat_template == original.chat_template
    assert copied.encode("12<|end|>") == original.encode("12<|end|>")
    assert (tmp_path / "out" / "generation_config.json").is_file()


def test_the_type_may_be_changed(run_folder: Path, tmp_path: Path) -> None:
    shape = export_model(run_folder, tmp_path / "out", dtype="bfloat16")
    assert shape.dtype == "bfloat16"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    before = dict(stream_tensors(run_folder / "model"))
    assert all(torch.equal(tensor, before[name].bfloat16()) for name, tensor in stream_tensors(tmp_path / "out"))


def test_values_that_the_type_cannot_hold_are_refused_and_nothing_is_left(run_folder: Path, tmp_path: Path) -> None:
    tensors = dict(stream_tensors(run_folder / "model"))
    tensors["model.norm.weight"][0] = 1e30
    write_sharded(tensors.items(), run_folder / "model")
    with pytest.raises(ModelError, match=r"'model\.norm\.weight'.*not finite in float16"):
        export_model(run_folder, tmp_path / "out", dtype="float16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_incomplete_model_is_refused(run_folder: Path, tmp_path: Path) -> None:
    tensors = dict(stream_tensors(run_folder / "model"))
    del tensors["model.norm.weight"]
    write_sharded(tensors.items(), run_folder / "model")
    with pytest.raises(ModelError, match=r"lacks tensor 'model\.norm\.weight'"):
        export_model(run_folder, tmp_path / "out")


def test_wrong_requests_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dtype 'int8' is not known"):
        export_model(run_folder, tmp_path / "out", dtype="int8")
    with pytest.raises(ModelError, match="holds no model"):
        export_model(tmp_path, tmp_path / "out")
    with pytest.raises(ModelError, match="exists and is not empty"):
        export_model(run_folder, run_folder)


class TestAdapters:
    @pytest.fixture
    def adapted(self, run_folder: Path) -> Path:
        """A run with the adapter of its model, as peft saves it."""
        base = AutoModelForCausalLM.from_pretrained(run_folder / "model")
        settings = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        peft.get_peft_model(base, settings).save_pretrained(run_folder / "adapter")
        return run_folder

    def test_peft_opens_the_copy_of_an_adapter(self, adapted: Path, tmp_path: Path) -> None:
        adapter = export_adapter(adapted, tmp_path / "out")
        assert (adapter.rank, len(adapter.layers)) == (2, 2)
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["adapter_config.json", "adapter_model.safetensors"]
        token_ids = torch.tensor([[1, 7, 9, 3]])
        logits = []
        for folder in (adapted / "adapter", tmp_path / "out"):
            base = AutoModelForCausalLM.from_pretrained(adapted / "model")
            with torch.no_grad():
                logits.append(peft.PeftModel.from_pretrained(base, folder)(token_ids).logits)
        assert torch.equal(*logits)

    def test_its_type_may_be_changed(self, adapted: Path, tmp_path: Path) -> None:
        export_adapter(adapted, tmp_path / "out", dtype="bfloat16")
        assert {tensor.dtype for _, tensor in stream_tensors(tmp_path / "out")} == {torch.bfloat16}

    def test_a_folder_in_use_stays_as_it_is(self, adapted: Path) -> None:
        with pytest.raises(ModelError, match="exists and is not empty"):
            export_adapter(adapted, adapted / "model")
        assert (adapted / "model" / "config.json").is_file()

    def test_what_the_type_cannot_hold_is_refused_and_nothing_is_left(self, adapted: Path, tmp_path: Path) -> None:
        tensors = dict(stream_tensors(adapted / "adapter"))
        next(iter(tensors.values()))[0, 0] = 1e30
        save_file(tensors, adapted / "adapter" / "adapter_model.safetensors")
        with pytest.raises(ModelError, match="not finite in float16"):
            export_adapter(adapted, tmp_path / "out", dtype="float16")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
