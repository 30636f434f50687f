"""How many tokens' logits are in memory at once. Apart from the maths, so that an estimate of memory needs no torch."""

from __future__ import annotations

CHUNK_ELEMENTS = 2**24
"""Logits in one chunk: 64 MiB in float32, large enough for full matmul speed, small beside any activation."""


def chunk_rows(vocabulary: int) -> int:
    """Tokens in one chunk."""
    return max(64, CHUNK_ELEMENTS // vocabulary)
