"""Chunked log-probs against the plain formula, values and gradients, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlkit.algos import log_probs as module
from rlkit.algos.log_probs import chunked_log_probs

TOKENS, WIDTH, VOCABULARY = 150, 6, 11


def inputs(*, bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    chosen = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64, requires_grad=True) if bias else None
    return hidden, weight, chosen, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


def plain(hidden, weight, bias, targets, temperature):
    distribution = torch.distributions.Categorical(
        logits=torch.nn.functional.linear(hidden, weight, bias) / temperature
    )
    return distribution.log_prob(targets), distribution.entropy(), distribution.probs.square().sum(dim=1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("uses_entropy", [False, True])
def test_values_and_gradients_equal_the_plain_formula(monkeypatch, temperature, bias, uses_entropy):
    monkeypatch.setattr(module, "chunk_rows", lambda vocabulary: 64)  # three chunks, the last one short
    hidden, weight, chosen, targets = inputs(bias=bias)
    leaves = [leaf for leaf in (hidden, weight, chosen) if leaf is not None]
    weights = torch.randn(2, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradients(log_probs, entropy, _):
        loss = (log_probs * weights[0]).sum()
        return torch.autograd.grad(loss + (entropy * weights[1]).sum() if uses_entropy else loss, leaves)

    expected = plain(hidden, weight, chosen, targets, temperature)
    actual = chunked_log_probs(hidden, weight, targets, temperature=temperature, bias=chosen, probability_squares=True)
    assert not actual.probability_squares.requires_grad
    for ours, theirs in zip((*actual, *gradients(*actual)), (*expected, *gradients(*expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_squared_probabilities_come_only_when_asked_for():
    hidden, weight, _, targets = inputs(bias=False)
    assert chunked_log_probs(hidden, weight, targets).probability_squares is None


def test_half_precision_inputs_accumulate_in_float32():
    hidden, weight, _, targets = inputs(bias=False)
    half = chunked_log_probs(hidden.detach().bfloat16(), weight.detach().bfloat16(), targets)
    exact = plain(hidden.detach().bfloat16().double(), weight.detach().bfloat16().double(), None, targets, 1.0)
    assert half[0].dtype == half[1].dtype == torch.float32
    # What is left is the rounding of the logits themselves to bfloat16 (8 bits: 2^-8 of a logit of up to ~8).
    torch.testing.assert_close(half[0].double(), exact[0], rtol=0, atol=0.05)


def test_no_tokens_give_empty_results_and_zero_gradients():
    hidden, weight, _, targets = inputs(bias=False)
    log_probs, entropy, _ = chunked_log_probs(hidden[:0], weight, targets[:0])
    assert log_probs.shape == entropy.shape == (0,)
    (gradient,) = torch.autograd.grad(log_probs.sum(), [weight])
    assert not gradient.any()


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("uses_entropy", [False, True])
def test_no_tensor_is_as_large_as_a_quarter_of_the_logits(monkeypatch, uses_entropy):
    monkeypatch.setattr(module, "chunk_rows", lambda vocabulary: 64)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1024, 8, generator=generator, requires_grad=True)
    weight = torch.randn(997, 8, generator=generator, requires_grad=True)
    targets = torch.randint(997, (1024,), generator=generator)
    with LargestTensor() as largest:
        log_probs, entropy, _ = chunked_log_probs(hidden, weight, targets)
        (log_probs + entropy if uses_entropy else log_probs).sum().backward()
    assert weight.numel() <= largest.elements <= 1024 * 997 / 4
    with LargestTensor() as largest:
        torch.log_softmax(hidden @ weight.T, dim=1).gather(1, targets[:, None]).sum().backward()
    assert largest.elements == 1024 * 997


@pytest.mark.parametrize("vocabulary", [11, 5003])
def test_log_probs_and_entropy_in_float32_are_the_plain_ones_to_a_millionth(vocabulary):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 32, generator=generator)
    weight = torch.randn(vocabulary, 32, generator=generator) / 32**0.5
    targets = torch.randint(vocabulary, (300,), generator=generator)
    log_probs, entropy, _ = chunked_log_probs(hidden, weight, targets)
    plain = torch.log_softmax(hidden @ weight.T, dim=1)
    torch.testing.assert_close(log_probs, plain.gather(1, targets[:, None])[:, 0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(entropy, -(plain.exp() * plain).sum(dim=1), atol=1e-5, rtol=1e-6)
