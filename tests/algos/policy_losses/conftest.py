"""Random tokens for the losses that look at more than one token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """[B, R] float64: log-probs of the present policy and of the old one, advantages; the mask has gaps."""

    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    mask: Tensor

    def places(self) -> list[tuple[int, int]]:
        """Row and column of every token in the mask."""
        return [(row, column) for row, column in self.mask.nonzero().tolist()]

    def rows(self, order: list[int]) -> Tokens:
        return Tokens(self.log_probs[order], self.old_log_probs[order], self.advantages[order], self.mask[order])


def _random_tokens(seed: int, rows: int, columns: int, *, drift: float = 0.3) -> Tokens:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    old = -2 * torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, columns + 1, (rows, 1), generator=generator)
    mask = (torch.arange(columns) < lengths) & (torch.rand(rows, columns, generator=generator) < 0.9)
    mask[0, 0] = True
    present = old + drift * normal(rows, columns)
    return Tokens(present, old, normal(rows, 1).expand(rows, columns), mask)


@pytest.fixture(scope="session")
def random_tokens():
    """random_tokens(seed, rows, columns, drift=...) -> Tokens."""
    return _random_tokens
