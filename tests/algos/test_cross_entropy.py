"""Summed cross-entropy against torch's own, value and gradients."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos import cross_entropy as module
from rlkit.algos.cross_entropy import summed_cross_entropy

TOKENS, WIDTH, VOCABULARY = 150, 6, 11


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((TOKENS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    )
    return hidden, weight, bias, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


@pytest.mark.parametrize("with_bias", [False, True])
def test_value_and_gradients_equal_the_plain_formula(monkeypatch, with_bias):
    monkeypatch.setattr(module, "chunk_rows", lambda vocabulary: 64)  # three chunks, the last one short
    hidden, weight, bias, targets = inputs()
    leaves = [hidden, weight, bias] if with_bias else [hidden, weight]
    chosen = bias if with_bias else None
    logits = torch.nn.functional.linear(hidden, weight, chosen)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    actual = summed_cross_entropy(hidden, weight, targets, bias=chosen)
    torch.testing.assert_close(actual, expected)
    ours, theirs = (torch.autograd.grad(loss * 0.3, leaves) for loss in (actual, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_do():
    hidden, weight, _, targets = inputs()
    loss = summed_cross_entropy(hidden, weight.detach(), targets)
    loss.backward()
    assert hidden.grad is not None and hidden.grad.any()
    assert weight.grad is None


def test_without_gradients_it_is_the_same_number():
    hidden, weight, _, targets = inputs()
    with torch.no_grad():
        assert summed_cross_entropy(hidden, weight, targets) == summed_cross_entropy(hidden, weight, targets).detach()
        assert not summed_cross_entropy(hidden, weight, targets).requires_grad


def test_half_precision_inputs_give_half_precision_gradients_and_a_sum_that_is_not():
    hidden, weight, _, targets = inputs(torch.bfloat16)
    loss = summed_cross_entropy(hidden, weight, targets)
    loss.backward()
    exact = torch.nn.functional.cross_entropy(hidden.double() @ weight.double().T, targets, reduction="sum")
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, exact, rtol=5e-3, atol=0)


def test_a_loss_s_share_of_the_whole_is_not_rounded_to_eight_bits():
    hidden, weight, _, targets = inputs(torch.bfloat16)
    share = 1 / 771  # in bfloat16 0.2 % more
    whole, part = (
        torch.autograd.grad(summed_cross_entropy(hidden, weight, targets) * factor, hidden)[0]
        for factor in (1.0, share)
    )
    assert part.dtype == torch.bfloat16
    assert torch.equal(part, (whole.float() * share).to(torch.bfloat16))


def test_no_tokens_are_no_loss_and_zero_gradients():
    hidden, weight, _, targets = inputs()
    loss = summed_cross_entropy(hidden[:0], weight, targets[:0])
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()
