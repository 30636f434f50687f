"""The key-value cache of vLLM on a CPU: the part of `vllm_api` that keeps one answer's NaN out of the others.

Nothing of vLLM is imported with this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor


def clear_blocks_before_use(runner: Any) -> None:
    """Let a model runner of vLLM zero each block of its cache that a request is about to fill.

    On a CPU vLLM multiplies what lies in a block beyond the sequence's end by 0, and 0 * NaN is NaN: after one step with
    diverged weights, or one overflow, every later request whose block had been used then would answer with NaN, whatever
    its weights. vLLM itself zeroes the blocks of some architectures only.
    """
    execute = runner.execute_model

    def execute_on_clear_blocks(scheduled: Any, *others: Any, **named: Any) -> Any:
        sizes = [group.kv_cache_spec.block_size for group in runner.kv_cache_config.kv_cache_groups]
        blocks = sorted(set(_new_blocks(scheduled, sizes)))
        if blocks:
            for cache in runner.kv_caches:
                if isinstance(cache, Tensor):
                    cache.view(runner.kv_cache_config.num_blocks, -1, *cache.shape[1:])[blocks] = 0
        return execute(scheduled, *others, **named)

    runner.execute_model = execute_on_clear_blocks


def _new_blocks(scheduled: Any, sizes: Sequence[int]) -> Iterator[int]:
    """Numbers of the blocks that hold nothing yet of what their requests have computed; sizes: tokens of a block, by group."""
    for request in scheduled.scheduled_new_reqs:
        yield from _beyond(request.block_ids, request.num_computed_tokens, sizes)
    running = scheduled.scheduled_cached_reqs
    for request_id, blocks, computed in zip(
        running.req_ids, running.new_block_ids, running.num_computed_tokens, strict=True
    ):
        # Those of a resumed request are all of its blocks, of another one those that it gets now.
        if blocks is not None:
            yield from _beyond(blocks, computed if request_id in running.resumed_req_ids else 0, sizes)


def _beyond(blocks: tuple[list[int], ...], computed: int, sizes: Sequence[int]) -> Iterator[int]:
    """Blocks of every group after those that the first `computed` tokens lie in; the last of these may be half full."""
    for group, size in zip(blocks, sizes, strict=False):  # a group of an encoder's comes last, without a size
        yield from group[-(-computed // size) :]
