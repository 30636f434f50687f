"""`Did you mean` for names of architectures, tensors and config keys."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?` for the nearest of `known`, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f". Did you mean '{near[0]}'?" if near else ""
