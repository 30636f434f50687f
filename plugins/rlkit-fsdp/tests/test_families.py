"""Packed rows, padded rows and rows one by one: equal logits and equal gradients for the families that rlkit ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.packed_rows import pack_rollouts
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

TOLERANCE = 1e-5
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
FAMILIES = [
    ("llama", {"tie_word_embeddings": False}),
    ("llama", {"tie_word_embeddings": True}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
    ("mistral", {"sliding_window": 6}),
    ("olmo2", {}),
    ("gemma", {"head_dim": 8}),
    ("qwen3_moe", {**EXPERTS, "head_dim": 8}),
]
PROMPTS = [[3, 4, 5], [7], [8, 9, 10, 11, 12], [13, 14]]
RESPONSES = [[15, 16, 17, 18, 19, 20], [21, 22], [23], [24, 25, 26, 27]]


@pytest.fixture(params=FAMILIES, ids=lambda family: "-".join([family[0], *sorted(family[1])]))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model_type, sizes = request.param
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**{**SIZES, **sizes})).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def batch(rollouts):
    return rollouts(PROMPTS, RESPONSES)


def loss_of(log_probs: Tensor) -> Tensor:
    """Of all response tokens; every one has a gradient of its own size."""
    return (log_probs * torch.linspace(0.5, 1.5, len(log_probs))).sum()


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def one_by_one(model: Any) -> Tensor:
    parts = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        logits = model(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
        parts.append(chosen(logits[len(prompt) - 1 : -1], torch.tensor(response)))
    return torch.cat(parts)


def padded(model: Any) -> Tensor:
    """Transformers' usual way: rows padded on the right, with an attention mask."""
    rows = [[*prompt, *response] for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    logits = model(ids, attention_mask=mask, use_cache=False).logits
    parts = [
        chosen(logits[row, len(prompt) - 1 : len(prompt) + len(response) - 1], torch.tensor(response))
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True))
    ]
    return torch.cat(parts)


def chosen(logits: Tensor, tokens: Tensor) -> Tensor:
    return torch.log_softmax(logits.float(), dim=-1).gather(1, tokens[:, None])[:, 0]


def test_packed_padded_and_one_by_one_agree(role, folder, batch):
    actor = FSDPBackend().build_actor(role(path=folder))
    packed = actor.root.statistics(pack_rollouts(batch, "cpu"), 1.0).log_probs
    loss_of(packed).backward()
    found = gradients(actor.module)
    for way in (one_by_one, padded):
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        expected = way(plain)
        loss_of(expected).backward()
        torch.testing.assert_close(packed, expected, rtol=TOLERANCE, atol=TOLERANCE)
        for name, gradient in gradients(plain).items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=TOLERANCE * max(scale, 1.0), msg=name)


def test_packed_logits_are_those_of_one_row_at_a_time(role, folder, batch):
    reference = FSDPBackend().build_reference(role(path=folder, optimizer=None))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows = pack_rollouts(batch, "cpu")
    with torch.no_grad():
        head = reference.module.get_output_embeddings()
        found = head(reference.root.hidden_states(rows))
        expected = torch.cat(
            [
                plain(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
                for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
            ]
        )
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
