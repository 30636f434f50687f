from __future__ import annotations

import pytest
import torch
from rlkit_hf import sampling
from rlkit_hf.sampling import (
    Choice,
    RowSettings,
    answer_keys,
    choose_tokens,
    invert_distribution,
    keep_likely,
    uniforms,
)
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


def settings_of(*params: SamplingParams, vocabulary: int = 50) -> RowSettings:
    return RowSettings.of(params, vocabulary=vocabulary, device=torch.device("cpu"))


def choose(
    scores: torch.Tensor, params: SamplingParams, uniform: torch.Tensor, seen: torch.Tensor | None = None
) -> Choice:
    settings = settings_of(*[params] * scores.shape[0], vocabulary=scores.shape[1])
    return choose_tokens(scores, settings, uniform, seen, {})


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
    settings = settings_of(*[SamplingParams(max_tokens=1, **params)] * 6)  # type: ignore[arg-type]
    kept = keep_likely(logits(), settings.top_k, settings.top_p, settings.min_p)
    assert torch.equal(kept.isinf(), expected.isinf())


def test_penalty_and_temperature_are_applied_in_the_order_of_transformers() -> None:
    prompt = torch.tensor([[1, 4, 9, 4]] * 6)
    warped = TemperatureLogitsWarper(0.7)(prompt, RepetitionPenaltyLogitsProcessor(1.5)(prompt, logits()))
    seen = torch.zeros(6, 50, dtype=torch.bool).scatter_(1, prompt, True)
    uniform = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    params = SamplingParams(max_tokens=1, temperature=0.7, repetition_penalty=1.5)
    choice = choose(logits(), params, uniform, seen)
    assert torch.equal(choice.tokens, invert_distribution(torch.softmax(warped, -1), uniform))
    # The trainer recomputes without the penalty.
    expected = torch.log_softmax(logits() / 0.7, -1).gather(1, choice.tokens[:, None])[:, 0]
    assert torch.allclose(choice.log_probs, expected, atol=1e-6)


def test_greedy_takes_the_first_of_equals_and_reports_log_probs_at_temperature_one() -> None:
    scores = torch.tensor([[0.0, 2.0, 2.0]])
    choice = choose(scores, SamplingParams(max_tokens=1, temperature=0.0), torch.zeros(1))
    assert choice.tokens.tolist() == [1]
    assert torch.allclose(choice.log_probs, torch.log_softmax(scores, -1)[:, 1])


KINDS = (
    SamplingParams(max_tokens=1),
    SamplingParams(max_tokens=1, temperature=0.0, repetition_penalty=1.4),
    SamplingParams(max_tokens=1, temperature=0.7, top_k=5),
    SamplingParams(max_tokens=1, top_p=0.8, repetition_penalty=1.2),
    SamplingParams(max_tokens=1, temperature=1.3, min_p=0.1),
    SamplingParams(max_tokens=1, temperature=0.0),
    SamplingParams(max_tokens=1, top_k=9, top_p=0.6, min_p=0.2),
)


def mixed(alternatives: dict[int, int]) -> tuple[Choice, torch.Tensor, torch.Tensor]:
    """A choice with all kinds side by side, with the uniforms and seen tokens [kinds, V] that it was made with."""
    uniform = torch.linspace(0.05, 0.95, len(KINDS), dtype=torch.float64)
    seen = logits(len(KINDS)) > 1
    penalised = [number for number, params in enumerate(KINDS) if params.repetition_penalty != 1]
    return choose_tokens(logits(len(KINDS)), settings_of(*KINDS), uniform, seen[penalised], alternatives), uniform, seen


def test_each_row_is_answered_as_if_alone_whatever_is_beside_it() -> None:
    choice, uniform, seen = mixed({})
    for row, params in enumerate(KINDS):
        own = seen[row : row + 1] if params.repetition_penalty != 1 else None
        alone = choose(logits(len(KINDS))[row : row + 1], params, uniform[row : row + 1], own)
        assert torch.equal(alone.tokens[0], choice.tokens[row])
        assert torch.equal(alone.log_probs[0], choice.log_probs[row])


def test_alternatives_are_the_likeliest_with_the_log_probs_that_the_answer_has() -> None:
    choice, _, _ = mixed({0: 3, 2: 1, 5: 50})
    assert {row: len(found) for row, found in choice.alternatives.items()} == {0: 3, 2: 1, 5: 50}
    for row, found in choice.alternatives.items():
        expected = torch.log_softmax(logits(len(KINDS))[row] / (KINDS[row].temperature or 1), -1).sort(descending=True)
        assert [token for token, _ in found] == expected.indices[: len(found)].tolist()
        assert torch.allclose(torch.tensor([value for _, value in found]), expected.values[: len(found)], atol=1e-5)


def test_rows_handled_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _, _ = mixed({1: 2, 6: 3})
    monkeypatch.setattr(sampling, "MAX_CHUNK_ELEMENTS", 120)
    parts, _, _ = mixed({1: 2, 6: 3})
    assert torch.equal(parts.tokens, whole.tokens) and torch.equal(parts.log_probs, whole.log_probs)
    assert parts.alternatives == whole.alternatives


@pytest.mark.parametrize("vocabulary", [1, 63, 64, 65, 1000])
def test_blocks_of_tokens_invert_the_same_distribution(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(200, vocabulary, generator=generator) * (
        torch.rand(200, vocabulary, generator=generator) < 0.3
    )
    weights[:, 0] += 1e-3
    uniform = torch.rand(200, generator=generator, dtype=torch.float64)
    uniform[:2] = torch.tensor([2.0**-49, 1 - 2.0**-49], dtype=torch.float64)
    tokens = invert_distribution(weights, uniform)
    cumulative = weights.double().cumsum(-1) / weights.double().sum(-1, keepdim=True)
    after = cumulative.gather(1, tokens[:, None])[:, 0]
    before = after - weights.double().gather(1, tokens[:, None])[:, 0] / weights.double().sum(-1)
    assert bool((weights.gather(1, tokens[:, None]) > 0).all())
    assert bool((before <= uniform + 1e-6).all()) and bool((uniform <= after + 1e-6).all())


def test_half_precision_logits_are_judged_in_float32() -> None:
    uniform = torch.full((6,), 0.5, dtype=torch.float64)
    assert choose(logits().bfloat16(), SamplingParams(max_tokens=1), uniform).log_probs.dtype == torch.float32
