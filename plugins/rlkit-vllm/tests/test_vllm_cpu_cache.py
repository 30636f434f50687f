"""Which blocks of vLLM's cache a pass fills for the first time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from rlkit_vllm.vllm_cpu_cache import clear_blocks_before_use


def scheduled(
    new: list[tuple[tuple[list[int], ...], int]], running: list[tuple[str, tuple[list[int], ...] | None, int]] = ()
) -> Any:
    """Requests with (blocks of each group, tokens computed); running ones by name, "again" being one that is resumed."""
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(block_ids=blocks, num_computed_tokens=computed) for blocks, computed in new
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=[name for name, _, _ in running],
            new_block_ids=[blocks for _, blocks, _ in running],
            num_computed_tokens=[computed for _, _, computed in running],
            resumed_req_ids={"again"},
        ),
    )


def cleared(pass_: Any, *sizes: int) -> list[int]:
    """The blocks that are zero when the pass begins, of ten that hold NaN, each in two parts as a kernel may want them."""
    seen: list[int] = []

    def execute(given: Any, more: int) -> int:
        cache = runner.kv_caches[0].view(10, -1)
        seen.extend(number for number in range(10) if bool((cache[number] == 0).all()))
        assert bool(torch.isnan(cache[[n for n in range(10) if n not in seen]]).all())
        return more

    groups = [SimpleNamespace(kv_cache_spec=SimpleNamespace(block_size=size)) for size in sizes]
    runner: Any = SimpleNamespace(
        kv_caches=[torch.full((20, 2, 4), float("nan")), None],
        kv_cache_config=SimpleNamespace(kv_cache_groups=groups, num_blocks=10),
        execute_model=execute,
    )
    clear_blocks_before_use(runner)
    assert runner.execute_model(pass_, 5) == 5
    return seen


def test_a_request_that_comes_gets_clear_blocks() -> None:
    assert cleared(scheduled([(([3, 1],), 0), (([7],), 0)]), 16) == [1, 3, 7]


def test_blocks_with_a_beginning_that_others_have_computed_stay() -> None:
    assert cleared(scheduled([(([4, 5, 6],), 32)]), 16) == [6]
    assert cleared(scheduled([(([4, 5, 6],), 33)]), 16) == []  # the last one is half full


def test_a_running_request_has_only_new_ones_cleared() -> None:
    assert cleared(scheduled([], [("a", ([8],), 128), ("b", None, 64)]), 16) == [8]


def test_a_resumed_request_is_told_all_its_blocks() -> None:
    assert cleared(scheduled([], [("again", ([2, 8, 9],), 16)]), 16) == [8, 9]


def test_groups_have_blocks_of_their_own_size() -> None:
    assert cleared(scheduled([(([1, 2, 3], [4, 5]), 32)]), 16, 32) == [3, 5]
