"""A reward model's numbers are those of transformers' own forward pass, however its rows are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.errors import ModelError
from rlkit.models.score_model import TokenRow, load_score_model, score_batches

SIZES: dict[str, dict[str, Any]] = {
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64},
    "llama": {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64},
    "mistral": {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "sliding_window": 5},
    "gpt2": {"n_positions": 64},
    "bert": {"max_position_embeddings": 64},
}
PACKED = {"qwen3": True, "llama": True, "mistral": True, "gpt2": False, "bert": False}


def classifier(folder: Path, model_type: str, **changes: Any) -> Any:
    """A random classifier in `folder`, written by transformers itself."""
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    sizes = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_labels": 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(2)
    config = CONFIG_MAPPING[model_type](**{**sizes, **SIZES[model_type], **changes})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return model


def random_rows(lengths: list[int]) -> list[TokenRow]:
    generator = torch.Generator().manual_seed(0)
    return [TokenRow(tuple(torch.randint(1, 40, (length,), generator=generator).tolist())) for length in lengths]


@torch.no_grad()
def alone(model: Any, rows: list[TokenRow], **options: Any) -> torch.Tensor:
    """By the model's own forward pass, one row at a time."""
    return torch.cat([model(input_ids=torch.tensor([row.token_ids]), **options).logits for row in rows]).float()


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("model_type", SIZES)
def test_the_numbers_are_those_of_transformers(tmp_path: Path, model_type: str, labels: int) -> None:
    reference = classifier(tmp_path, model_type, num_labels=labels)
    model = load_score_model(tmp_path, dtype="float32", device="cpu")
    rows = random_rows([7, 1, 19, 12, 2])
    numbers = torch.tensor(model.logits(rows))
    assert model.is_packed is PACKED[model_type]
    assert numbers.shape == (5, labels)
    assert torch.allclose(numbers, alone(reference, rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["qwen3", "gpt2"])
def test_the_padding_token_at_the_end_is_passed_over_as_transformers_does(tmp_path: Path, model_type: str) -> None:
    """Where the end-of-sequence token serves as padding, the score is read in front of it."""
    reference = classifier(tmp_path, model_type)
    rows = [TokenRow((5, 6, 7, 0)), TokenRow((5, 6, 0, 7, 8, 9)), TokenRow((0, 0, 0)), TokenRow((5, 6, 7, 0, 0))]
    numbers = torch.tensor(load_score_model(tmp_path, dtype="float32", device="cpu").logits(rows))
    expected = alone(reference, rows, attention_mask=None)
    if model_type == "gpt2":  # there the padding is masked, which changes what an all-padding row is
        numbers, expected = numbers[:2], expected[:2]
    assert torch.allclose(numbers, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_model_without_a_padding_token_is_read_at_the_last_position(tmp_path: Path, model_type: str) -> None:
    reference = classifier(tmp_path, model_type, pad_token_id=None)
    rows = random_rows([4, 9, 4])
    numbers = torch.tensor(load_score_model(tmp_path, dtype="float32", device="cpu").logits(rows))
    assert torch.allclose(numbers, alone(reference, rows), atol=1e-5, rtol=0)


def test_two_texts_are_told_apart_where_the_model_does_so(tmp_path: Path) -> None:
    reference = classifier(tmp_path, "bert")
    rows = [TokenRow((5, 6, 7, 8), (0, 0, 1, 1)), TokenRow((5, 6, 7), (0, 1, 1))]
    numbers = torch.tensor(load_score_model(tmp_path, dtype="float32", device="cpu").logits(rows))
    with torch.no_grad():
        expected = [
            reference(input_ids=torch.tensor([r.token_ids]), token_type_ids=torch.tensor([r.type_ids])) for r in rows
        ]
    assert torch.allclose(numbers, torch.cat([output.logits for output in expected]), atol=1e-5, rtol=0)


def test_an_architecture_that_packing_changes_runs_padded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GPT-OSS has attention sinks, which packed attention does not apply."""
    from transformers import AutoModelForSequenceClassification, GptOssConfig

    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_labels=1, pad_token_id=0, num_local_experts=2, num_experts_per_tok=1,
        initializer_range=0.5,
    )  # fmt: skip
    reference = AutoModelForSequenceClassification.from_config(config).eval()
    reference.save_pretrained(tmp_path)
    with caplog.at_level("INFO", logger="rlkit"):
        model = load_score_model(tmp_path, dtype="float32", device="cpu")
    assert not model.is_packed
    assert "GptOssForSequenceClassification runs padded (other hidden states when packed)" in caplog.text
    rows = random_rows([7, 3, 12])
    assert torch.allclose(torch.tensor(model.logits(rows)), alone(reference, rows), atol=1e-5, rtol=0)


def test_half_precision_is_close_and_its_head_is_not_rounded(tmp_path: Path) -> None:
    reference = classifier(tmp_path, "qwen3")
    rows = random_rows([9] * 64)
    numbers = torch.tensor(load_score_model(tmp_path, dtype="bfloat16", device="cpu").logits(rows))
    assert torch.allclose(numbers, alone(reference, rows), atol=0.05)
    assert not torch.equal(numbers, numbers.bfloat16().float())


def test_a_model_can_leave_the_device_and_come_back(tmp_path: Path) -> None:
    classifier(tmp_path, "qwen3")
    model = load_score_model(tmp_path, dtype="float32", device="cpu")
    rows = random_rows([5, 6])
    before = model.logits(rows)
    model.offload()
    model.onload()
    assert model.logits(rows) == before


def test_a_critic_that_rlkit_has_saved_is_a_reward_model_too(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    from rlkit.models.causal import build_model, export_weights, save_model

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, head_dim=8
    )
    critic: Any = build_model(config, head="value", dtype=torch.float32, device="cpu")
    torch.nn.init.normal_(critic.score.weight)
    save_model(export_weights(critic), critic.config, tmp_path)
    (row,) = rows = random_rows([6])
    with torch.no_grad():
        expected = critic(torch.tensor([row.token_ids]))[0, -1]
    assert load_score_model(tmp_path, dtype="float32", device="cpu").logits(rows)[0][0] == pytest.approx(
        float(expected), abs=1e-5
    )


def test_a_language_model_is_refused_instead_of_scoring_at_random(reference_model: Any) -> None:
    folder, _ = reference_model("qwen3")
    with pytest.raises(ModelError, match=r"is no trained sequence classifier: its files lack score\.weight"):
        load_score_model(folder, dtype="float32", device="cpu")


@pytest.mark.parametrize("damage", ["no weights", "half a file"])
def test_files_that_cannot_be_read_are_told_in_one_line(tmp_path: Path, damage: str) -> None:
    classifier(tmp_path, "qwen3")
    weights = tmp_path / "model.safetensors"
    if damage == "no weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="no sequence classifier can be loaded from") as caught:
        load_score_model(tmp_path, dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)


def test_batches_hold_rows_of_similar_length_within_the_budget() -> None:
    rows = random_rows([3, 10, 1, 4, 9, 30, 4])
    batches = score_batches(rows, 20)
    assert batches == [[5], [1, 4], [3, 6, 0, 2]]
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert score_batches([], 20) == []
