from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.packing_check import check_packed, probe_rows

from rlkit.errors import ModelError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture
def model_folder(tmp_path: Path):
    def make(model_type: str, sizes: dict[str, Any]) -> Path:
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**sizes)).save_pretrained(tmp_path)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [("mistral", SIZES), ("olmo2", SIZES), ("gemma", {**SIZES, "head_dim": 8}), ("qwen3_moe", SIZES), ("gpt2", GPT2)],
)
def test_architectures_that_pack_are_taken(role, model_folder, model_type, sizes):
    folder = model_folder(model_type, sizes)
    for dtype in ("float32", "bfloat16"):
        FSDPBackend().build_actor(role(path=folder, dtype=dtype))
        FSDPBackend().build_reference(role(path=folder, dtype=dtype, optimizer=None))
    if model_type != "qwen3_moe":  # has no value head
        FSDPBackend().build_critic(role(path=folder))


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("cohere", SIZES),  # scales its logits by logit_scale
        ("granite", {**SIZES, "logits_scaling": 8.0}),
        ("bloom", {"vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4}),  # position comes from the mask
    ],
)
def test_architectures_with_other_log_probs_are_refused(role, model_folder, model_type, sizes):
    folder = model_folder(model_type, sizes)
    with pytest.raises(ModelError, match=r"ForCausalLM gives other numbers .* actor backend 'fsdp'"):
        FSDPBackend().build_actor(role(path=folder))


def test_a_backbone_that_looks_into_other_rows_cannot_be_a_critic(role, model_folder):
    folder = model_folder("bloom", {"vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4})
    with pytest.raises(ModelError, match="BloomModel gives other numbers"):
        FSDPBackend().build_critic(role(path=folder))


def test_what_fails_when_packed_is_refused_with_its_reason():
    def fail() -> torch.Tensor:
        raise TypeError("no packed_layout\nhere")

    with pytest.raises(ModelError, match=r"Thing cannot run padding-free \(no packed_layout here\)"):
        check_packed("Thing", torch.ones(3), fail, torch.float32)


def test_a_model_that_is_indifferent_between_all_tokens_is_taken():
    # log 40, computed in two ways that round differently.
    expected = torch.full((13,), -3.6888795)
    check_packed("Thing", expected, lambda: expected - 5e-7, torch.float32)


def test_nan_is_not_the_same_number():
    with pytest.raises(ModelError, match="gives other numbers"):
        check_packed("Thing", torch.ones(3), lambda: torch.full((3,), float("nan")), torch.float32)


def test_the_probe_predicts_every_token_but_the_first_of_a_row():
    rows = probe_rows(40, torch.device("cpu"))
    assert len(rows.token_ids) == 15
    assert rows.predict_at.tolist() == [*range(8), *range(9, 14)]
    assert rows.token_ids[rows.predict_at + 1].tolist() == rows.targets.tolist()
