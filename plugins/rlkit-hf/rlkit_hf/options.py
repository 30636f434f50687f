"""Options of the `hf` rollout engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlkit.config import PluginOptions


class HFEngineOptions(PluginOptions):
    """How much is computed at once; the answers do not depend on it."""

    max_batch_tokens: Annotated[int, Field(gt=0)] = 131_072
    """Tokens that the KV cache of one batch may grow to: answers in progress x (longest prompt + longest answer). More answers at once are faster until memory runs out."""
    max_prefill_tokens: Annotated[int, Field(gt=0)] = 16_384
    """Prompt tokens, padding included, in one forward pass."""
