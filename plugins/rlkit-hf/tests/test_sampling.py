from __future__ import annotations

import pytest
import torch
from rlkit_hf import sampling
from rlkit_hf.sampling import answer_keys, choose_tokens, invert_distribution, keep_likely, uniforms
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rlkit.types import SamplingParams


def logits(rows: int = 6, vocabulary: int = 50) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0)) * 3


def test_uniforms_are_the_reference_splitmix64() -> None:
    # First outputs of SplitMix64 seeded with 1234567 (Rosetta Code; Vigna's splitmix64.c), their upper 48 bits.
    reference = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    found = uniforms(torch.full((5,), 1234567), torch.arange(5))
    assert found.tolist() == [((value >> 16) + 0.5) * 2.0**-48 for value in reference]


def test_every_label_changes_the_number() -> None:
    base = answer_keys(0, [3], [1])
    others = [answer_keys(1, [3], [1]), answer_keys(0, [4], [1]), answer_keys(0, [3], [2]), answer_keys(0, [1], [3])]
    numbers = {float(uniforms(key, torch.tensor([0]))) for key in (base, *others)}
    assert len(numbers) == 5
    assert float(uniforms(base, torch.tensor([1]))) not in numbers


def test_seeds_beyond_64_bits_are_taken() -> None:
    assert torch.equal(answer_keys(2**64 + 5, [0], [0]), answer_keys(5, [0], [0]))
    assert not torch.equal(answer_keys(-1, [0], [0]), answer_keys(1, [0], [0]))


def test_uniforms_fill_the_unit_interval_evenly_and_without_correlation() -> None:
    keys = answer_keys(0, [row for row in range(200) for _ in range(5)], list(range(5)) * 200)
    numbers = torch.stack([uniforms(keys, torch.full_like(keys, position)) for position in range(40)])  # [40, 1000]
    counts = torch.histc(numbers, bins=20, min=0, max=1)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 60  # chi-square with 19 degrees of freedom, mean 19
    assert abs(float(torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([numbers[:, :-1].flatten(), numbers[:, 1:].flatten()]))[0, 1])) < 0.02
    assert float(numbers.min()) > 0 and float(numbers.max()) < 1


def test_the_distribution_is_inverted_exactly() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]] * 6)
    uniform = torch.tensor([1e-15, 0.2499999, 0.25, 0.7499999, 0.75, 1 - 2.0**-49], dtype=torch.float64)
    assert invert_distribution(probabilities, uniform).tolist() == [1, 1, 3, 3, 4, 4]


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.1},
        {"top_k": 12, "top_p": 0.8, "min_p": 0.05},
        {"top_k": 500, "top_p": 1e-9},
    ],
)
def test_the_same_tokens_are_kept_as_in_transformers(params: dict[str, float]) -> None:
    expected = logits()
    if "top_k" in params:
        expected = TopKLogitsWarper(int(params["top_k"]))(None, expected)
    if "top_p" in params:
        expected = TopPLogitsWarper(params["top_p"])(None, expected)
    if "min_p" in params:
        expected = MinPLogitsWarper(params["min_p"])(None, expected)
    kept = keep_likely(logits(), SamplingParams(max_tokens=1, **params))  # type: ignore[arg-type]
    assert torch.equal(kept.isinf(), expected.isinf())


def test_penalty_and_temperature_are_applied_in_the_order_of_transformers() -> None:
    prompt = torch.tensor([[1, 4, 9, 4]] * 6)
    warped = TemperatureLogitsWarper(0.7)(prompt, RepetitionPenaltyLogitsProcessor(1.5)(prompt, logits()))
    seen = torch.zeros(6, 50, dtype=torch.bool).scatter_(1, prompt, True)
    uniform = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    params = SamplingParams(max_tokens=1, temperature=0.7, repetition_penalty=1.5)
    tokens, log_probs = choose_tokens(logits(), params, uniform, seen)
    assert torch.equal(tokens, invert_distribution(torch.softmax(warped, -1), uniform))
    # The trainer recomputes without the penalty.
    assert torch.allclose(log_probs, torch.log_softmax(logits() / 0.7, -1).gather(1, tokens[:, None])[:, 0])


def test_greedy_takes_the_first_of_equals_and_reports_log_probs_at_temperature_one() -> None:
    scores = torch.tensor([[0.0, 2.0, 2.0]])
    tokens, log_probs = choose_tokens(scores, SamplingParams(max_tokens=1, temperature=0.0), torch.zeros(1), None)
    assert tokens.tolist() == [1]
    assert torch.allclose(log_probs, torch.log_softmax(scores, -1)[:, 1])


def test_rows_handled_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=1, top_p=0.9, repetition_penalty=1.2)
    uniform = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    seen = logits() > 1
    whole = choose_tokens(logits(), params, uniform, seen)
    monkeypatch.setattr(sampling, "MAX_CHUNK_ELEMENTS", 120)
    parts = choose_tokens(logits(), params, uniform, seen)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_half_precision_logits_are_judged_in_float32() -> None:
    uniform = torch.full((6,), 0.5, dtype=torch.float64)
    _, log_probs = choose_tokens(logits().bfloat16(), SamplingParams(max_tokens=1), uniform, None)
    assert log_probs.dtype == torch.float32
