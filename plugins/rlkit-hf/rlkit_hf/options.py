"""Options of the `hf` rollout engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlkit.config import PluginOptions

CPU_ROWS = 40
"""More rows are somewhat faster and take more memory: about 1.2 MiB a row for a small model on GSM8K (docs/benchmarks.md)."""

GPU_ROWS = 256


class HFEngineOptions(PluginOptions):
    """How much is computed at once; the answers do not depend on it."""

    max_batch_tokens: Annotated[int, Field(gt=0)] = 131_072
    """Tokens that the KV cache may hold, over all answers in progress with their prompts. Only what rows really hold counts; when it runs short, the newest answers wait and are continued later, unchanged. A single answer may exceed it."""
    max_rows: Annotated[int, Field(gt=0)] | None = None
    """Answers in progress at once; unset, 40 on the CPU and 256 elsewhere. More share each pass of the model, which is faster until arithmetic or memory is the limit."""
    max_prefill_tokens: Annotated[int, Field(gt=0)] = 1024
    """Prompt tokens that enter in one pass, on the CPU at most 256; a longer prompt enters alone."""

    def rows_on(self, device_type: str) -> int:
        """`max_rows`, or what is usual on the device."""
        if self.max_rows is not None:
            return self.max_rows
        return CPU_ROWS if device_type == "cpu" else GPU_ROWS
