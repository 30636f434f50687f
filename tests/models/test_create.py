from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkit.errors import ModelError
from rlkit.models.create import create_model


def create(folder: Path, **options: Any) -> Any:
    return create_model(folder, **{"family": "qwen3", "tokenizer": "char", "alphabet": "0123456789+=", **options})


def test_a_new_model_opens_and_answers_a_chat(tmp_path: Path) -> None:
    shape = create(tmp_path / "m", overrides={"hidden_size": 32, "num_hidden_layers": 1})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert (shape.hidden_size, shape.num_layers, shape.head_dim) == (32, 1, 8)
    assert shape.vocab_size == len(tokenizer) == model.config.vocab_size
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1="}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_every_family_makes_models(tmp_path: Path, family: str) -> None:
    create(tmp_path / "m", family=family)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    assert model.config.model_type == family


def test_the_seed_decides_the_weights_and_nothing_else_is_touched(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        create(tmp_path / name, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    contents = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert contents["a"] == contents["b"] != contents["c"]


def test_a_larger_vocabulary_may_be_asked_for(tmp_path: Path) -> None:
    assert create(tmp_path / "m", overrides={"vocab_size": 64}).vocab_size == 64


def test_a_finished_tokenizer_is_taken_along(tmp_path: Path) -> None:
    create(tmp_path / "a")
    shape = create_model(tmp_path / "b", family="llama", tokenizer=str(tmp_path / "a"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert len(tokenizer) == shape.vocab_size
    assert tokenizer.chat_template


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "tinny"}, "Did you mean 'tiny'"),
        ({"overrides": {"hiden_size": 64}}, "no key 'hiden_size'. Did you mean 'hidden_size'"),
        ({"overrides": {"hidden_size": 65}}, "hidden_size = 65 is not divisible by num_attention_heads = 4"),
        (
            {"overrides": {"num_key_value_heads": 3}},
            "num_attention_heads = 4 is not divisible by num_key_value_heads = 3",
        ),
        ({"overrides": {"num_hidden_layers": 0}}, "num_hidden_layers = 0 must be a positive integer"),
        ({"overrides": {"hidden_size": "big"}}, "hidden_size = 'big' must be a positive integer"),
        ({"overrides": {"vocab_size": 5}}, "vocab_size = 5 is smaller than the tokenizer's 18 tokens"),
        ({"family": "auto"}, "'auto' makes no new models"),
        ({"tokenizer": "chars", "alphabet": ""}, "'chars' is neither char, byte, bpe nor a folder"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        create(tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_used_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
