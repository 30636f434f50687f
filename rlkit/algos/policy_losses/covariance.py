"""The tokens that drive a policy's entropy down (Cui et al. 2025, arXiv:2505.22617): likely ones with a high advantage.

Everything here is over a whole mini-batch, and the same whatever the order of its rows and the width of its padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlkit.algos.masked import where_mask

BITS = 0xFFFF_FFFF


def token_covariances(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """(log p - mean log p) (A - mean A) of each token (eq. 10), means over the mask; [B, R] float64, zero outside it."""
    return where_mask(_centred(log_probs, mask) * _centred(advantages, mask), mask)


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    # fsum rounds once, so that the mean has the same bits in every order and no near-tie is broken by the rows' order.
    mean = math.fsum(values[mask].tolist()) / max(int(mask.sum()), 1)
    return values.double() - mean


def draw_lots(old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """A number [B, R] int64 for each token in the mask, as good as random, which never changes.

    It is made from the token's old log-prob, advantage and place in its answer, and from those of the answer's other
    tokens, because all of these stay as they are. The present log-probs do not: their last bits depend on the other rows
    of a forward pass. Tokens draw the same number only where they stand at one place in two identical answers.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    token = _mix(_bits(old_log_probs) ^ _mix(_bits(advantages) ^ _mix(places)))
    answer = _mix(where_mask(token, mask).sum(dim=1, keepdim=True) & BITS)
    high, low = _mix(token ^ answer), _mix(token ^ _mix(answer))
    return where_mask((high << 31) | (low >> 1), mask)


def first_of(candidates: Tensor, count: int, *keys: Tensor) -> Tensor:
    """[B, R] bool: the `count` candidates with the smallest first key, among equals the smallest second key, and so on."""
    order = candidates.flatten().nonzero()[:, 0]
    for key in reversed(keys):
        order = order[torch.argsort(key.flatten()[order], stable=True)]
    chosen = torch.zeros(candidates.numel(), dtype=torch.bool, device=candidates.device)
    chosen[order[:count]] = True
    return chosen.view(candidates.shape)


def share_of(mask: Tensor, fraction: float) -> int:
    """How many tokens `fraction` of those in the mask are: rounded down, but at least one."""
    return max(int(fraction * int(mask.sum())), 1)


def _bits(values: Tensor) -> Tensor:
    """The 64 bits of each value folded into 32, as int64; adding zero makes -0.0 the same as 0.0."""
    bits = (values.double() + 0.0).view(torch.int64)
    return (bits ^ (bits >> 32)) & BITS


def _mix(bits: Tensor) -> Tensor:
    """A 32-bit hash of 32-bit numbers held in int64: shifts and multiplications that never leave 63 bits."""
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x21F0_AAAD) & BITS
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x735A_2D97) & BITS
    return bits ^ (bits >> 15)
