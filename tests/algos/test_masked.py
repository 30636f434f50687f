"""Masked sums: exact zero outside, whatever stands there."""

from __future__ import annotations

import torch

from rlkit.algos.masked import masked_mean, masked_sum, masked_whiten, row_sums, where_mask

VALUES = torch.tensor([[1.0, float("nan"), 3.0], [float("inf"), 5.0, float("-inf")]])
MASK = torch.tensor([[True, False, True], [False, True, False]])


def test_nan_and_infinity_outside_the_mask_count_nothing():
    assert where_mask(VALUES, MASK).tolist() == [[1, 0, 3], [0, 5, 0]]
    assert float(masked_sum(VALUES, MASK)) == 9
    assert float(masked_mean(VALUES, MASK)) == 3
    assert row_sums(VALUES, MASK).tolist() == [4, 5]


def test_no_gradient_reaches_what_is_masked():
    values = VALUES.clone().requires_grad_()
    masked_sum(values, MASK).backward()
    assert values.grad.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_an_empty_mask_has_mean_zero():
    assert float(masked_mean(VALUES, torch.zeros_like(MASK))) == 0


def test_one_token_is_centred_but_not_scaled():
    assert masked_whiten(VALUES, torch.tensor([[True, False, False]] * 2) & MASK).tolist() == [[0, 0, 0], [0, 0, 0]]
