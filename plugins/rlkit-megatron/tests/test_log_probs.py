"""Log-probs of a vocabulary in slices are those of the whole one."""

from __future__ import annotations

import pytest
import torch
from rlkit_megatron import log_probs

from rlkit.algos.log_probs import chunked_log_probs


@pytest.fixture
def numbers():
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 6), torch.randn(10, 6)
    return hidden, weight, torch.randint(10, (7,))


def test_the_slices_add_up_to_the_whole(numbers, monkeypatch):
    """Every process's share of the sums and of the gradients, each computed with the others' lse."""
    hidden, weight, targets = numbers
    slices = weight.split(6)
    logits = hidden @ weight.T / 0.7
    whole_lse = torch.logsumexp(logits, dim=1)
    monkeypatch.setattr(log_probs, "_joined_lse", lambda lse, group: whole_lse)
    sums: list[torch.Tensor] = []
    monkeypatch.setattr(log_probs.dist, "all_reduce", lambda tensor, group: sums.append(tensor.clone()))
    for rank, part in enumerate(slices):
        log_probs.sliced_log_probs(
            hidden, part, targets, start=6 * rank, group=None, temperature=0.7, probability_squares=True
        )
    expected = chunked_log_probs(hidden, weight, targets, temperature=0.7, probability_squares=True)
    total = sums[0] + sums[1]
    torch.testing.assert_close(total[0] - whole_lse, expected.log_probs)
    torch.testing.assert_close(whole_lse - total[1], expected.entropy)
    torch.testing.assert_close(total[2], expected.probability_squares)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_of_the_slices_are_parts_of_the_whole_ones(numbers, monkeypatch, temperature):
    hidden, weight, targets = numbers
    whole_hidden, whole_weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = chunked_log_probs(whole_hidden, whole_weight, targets, temperature=temperature)
    scale = torch.linspace(0.5, 1.5, 7)
    ((expected.log_probs + 0.3 * expected.entropy) * scale).sum().backward()
    statistics = torch.stack([expected.log_probs.detach(), expected.entropy.detach()])
    lse = torch.logsumexp(hidden @ weight.T / temperature, dim=1)
    monkeypatch.setattr(log_probs, "_joined_lse", lambda *_: lse)

    def sum_up(tensor: torch.Tensor, group: object) -> None:
        tensor[0], tensor[1] = statistics[0] + lse, lse - statistics[1]

    monkeypatch.setattr(log_probs.dist, "all_reduce", sum_up)
    shares, parts = [], []
    for rank, part in enumerate(weight.split(6)):
        own, mine = part.clone().requires_grad_(), hidden.clone().requires_grad_()
        found = log_probs.sliced_log_probs(mine, own, targets, start=6 * rank, group=None, temperature=temperature)
        ((found.log_probs + 0.3 * found.entropy) * scale).sum().backward()
        shares.append(mine.grad)
        parts.append(own.grad)
    torch.testing.assert_close(sum(shares), whole_hidden.grad)
    torch.testing.assert_close(torch.cat(parts), whole_weight.grad)
