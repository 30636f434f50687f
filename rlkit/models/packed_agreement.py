"""How far a padding-free forward pass may be from transformers' own before it is another computation."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest mean difference, relative to the spread of the numbers: well above rounding in each type."""

LEAST_SPREAD = 1e-3
"""Of the numbers' mean size: a model that is indifferent between all tokens has no spread, only rounding."""


def relative_difference(expected: Tensor, packed: Tensor) -> float:
    """Mean difference of two tensors of any (equal) shape, relative to the spread of `expected`; NaN where one has NaNs."""
    expected = expected.float()
    spread = max(float(expected.std()), LEAST_SPREAD * float(expected.abs().mean()))
    return float((packed.float() - expected).abs().mean()) / max(spread, 1e-9)
