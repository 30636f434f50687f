"""Likelihoods equal those of one row at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlkit.evaluation.harness.likelihood import Continuation, Likelihood, likelihoods
from rlkit.testing.tiny_model import tiny_model


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model()).eval()


def alone(model: Any, given: list[int], judged: list[int]) -> Likelihood:
    """Token by token, each from all that is before it."""
    total, greedy, before = 0.0, True, list(given)
    for token in judged:
        with torch.no_grad():
            log_probs = model(torch.tensor([before])).logits[0, -1].log_softmax(-1)
        total += float(log_probs[token])
        greedy &= int(log_probs.argmax()) == token
        before.append(token)
    return Likelihood(total, greedy)


def test_rows_of_different_lengths_do_not_change_each_other(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [
        (
            torch.randint(5, 20, (n,), generator=generator).tolist(),
            torch.randint(5, 20, (k,), generator=generator).tolist(),
        )
        for n, k in ((1, 1), (7, 3), (30, 1), (2, 12), (1, 20))
    ]
    with torch.no_grad():
        best = int(model(torch.tensor([rows[2][0]])).logits[0, -1].argmax())
    rows.append((rows[2][0], [best]))
    told: list[int] = []
    found = likelihoods(
        model,
        [Continuation(given, judged) for given, judged in rows],
        context_length=128,
        device="cpu",
        batch_tokens=40,
        on_batch=lambda batch, likelihood: told.extend(batch),
    )
    for row, likelihood in zip(rows, found, strict=True):
        expected = alone(model, *row)
        assert likelihood.log_prob == pytest.approx(expected.log_prob, rel=1e-4)
        assert likelihood.is_greedy == expected.is_greedy
    assert found[-1].is_greedy
    assert sorted(told) == list(range(6))
    assert told[0] in (2, 5), "the longest come first"


def test_what_does_not_fit_loses_its_beginning(model: Any) -> None:
    given, judged = list(range(5, 25)), [7, 8]
    (found,) = likelihoods(model, [Continuation(given, judged)], context_length=10, device="cpu")
    assert found.log_prob == pytest.approx(alone(model, given[-9:], judged).log_prob, rel=1e-4)


@pytest.mark.parametrize(("given", "judged"), [([], [1]), ([1], []), ([1], [2] * 11)])
def test_impossible_continuations_are_refused(model: Any, given: list[int], judged: list[int]) -> None:
    with pytest.raises(ValueError, match="continuation 0 has"):
        likelihoods(model, [Continuation(given, judged)], context_length=10, device="cpu")
