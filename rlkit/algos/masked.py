"""Sums over the tokens that count, deaf to whatever stands in the others."""

from __future__ import annotations

import torch
from torch import Tensor

WHITEN_EPSILON = 1e-8


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32 if they are narrower or whole numbers, untouched if float32 or float64: sums need the digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def where_mask(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with exact zeros where `mask` is False, NaN and infinity included (a product would keep NaN)."""
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Scalar sum of `values` [B, R] where `mask` [B, R] is True."""
    return where_mask(values, mask).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Scalar mean over the mask; zero for an empty mask."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def row_sums(values: Tensor, mask: Tensor) -> Tensor:
    """[B] sum of each row over the mask."""
    return where_mask(values, mask).sum(dim=1)


def row_means(values: Tensor, mask: Tensor) -> Tensor:
    """[B] mean of each row over the mask; zero for a row without any."""
    return row_sums(values, mask) / mask.sum(dim=1).clamp(min=1)


def spread(row_values: Tensor, mask: Tensor) -> Tensor:
    """[B, R]: each row's value [B] on all of its tokens in the mask, zero elsewhere."""
    return where_mask(row_values[:, None].expand(mask.shape), mask)


def masked_whiten(values: Tensor, mask: Tensor) -> Tensor:
    """`values` shifted and scaled to mean 0, variance 1 over the mask; zero elsewhere.

    The variance has Bessel's correction. With fewer than two tokens nothing can be scaled: the mean is removed only.
    """
    count = mask.sum()
    centred = where_mask(values - masked_mean(values, mask), mask)
    if count < 2:
        return centred
    variance = centred.square().sum() / (count - 1)
    return centred * torch.rsqrt(variance + WHITEN_EPSILON)
