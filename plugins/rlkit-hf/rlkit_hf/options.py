"""Options of the `hf` rollout engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlkit.config import PluginOptions


class HFEngineOptions(PluginOptions):
    """How much is computed at once; the answers do not depend on it."""

    max_batch_tokens: Annotated[int, Field(gt=0)] = 131_072
    """Tokens that the KV cache may hold, over all answers in progress with their prompts. Only what rows really hold counts; when it runs short, the newest answers wait and are continued later, unchanged. A single answer may exceed it."""
    max_rows: Annotated[int, Field(gt=0)] = 48
    """Answers in progress at once. More share each pass of the model, which is faster until arithmetic or memory is the limit."""
    max_prefill_tokens: Annotated[int, Field(gt=0)] = 1024
    """Prompt tokens that enter in one pass; a longer prompt enters alone."""
