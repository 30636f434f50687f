"""How many tokens one forward and backward pass takes; known without torch, for `--dry-run`."""

from __future__ import annotations

FAST_ROWS = 64
"""On a CPU packed rows are padded to a multiple of this, if there are more: see `rlkit_fsdp.linear`."""

CACHE_TOKENS = 768
"""On a CPU, tokens of one forward and backward pass: what the layers hand to each other then stays in the cache, which is
worth more than large matrix products."""


def pass_tokens(micro_batch_tokens: int, *, device: str, processes: int) -> int:
    """Most tokens of one pass of a model that `processes` share, padding included; a longer row goes alone."""
    if device != "cpu":
        return micro_batch_tokens
    # With several processes each micro-batch costs messages, so there it is the user's number alone.
    tokens = min(micro_batch_tokens, CACHE_TOKENS) if processes == 1 else micro_batch_tokens
    return tokens - tokens % FAST_ROWS if tokens > FAST_ROWS else tokens
