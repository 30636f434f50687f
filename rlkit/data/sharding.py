"""Rows split over the ranks of a group so that all have about the same number of tokens, and results put back in order."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch

from rlkit.types import Ragged

Shards = Sequence[Sequence[int]]
"""Row numbers of each rank."""


def balanced_shards(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Row numbers of each of `ranks` ranks (at least 1), each list ascending; a rank may get none.

    The longest row goes to the rank with the fewest tokens so far, then the next longest (Graham 1969, SIAM J. Appl.
    Math. 17(2): the fullest rank holds at most 4/3 of what it must). Equal lengths and equal ranks are taken in order,
    so the same lengths always give the same shards.
    """
    if ranks < 1:
        raise ValueError(f"rows cannot be split over {ranks} ranks")
    shards: list[list[int]] = [[] for _ in range(ranks)]
    # Rows count among equally full ranks, so that rows without tokens spread out too.
    fill = [(0, 0, rank) for rank in range(ranks)]
    for row in sorted(range(len(lengths)), key=lambda row: (-int(lengths[row]), row)):
        tokens, rows, rank = heapq.heappop(fill)
        shards[rank].append(row)
        heapq.heappush(fill, (tokens + int(lengths[row]), rows + 1, rank))
    return [sorted(shard) for shard in shards]


def row_order(shards: Shards) -> list[int]:
    """Where each row lies when the ranks' results are laid end to end: `results[row_order[r]]` is row r's."""
    came = [row for shard in shards for row in shard]
    order = [0] * len(came)
    for place, row in enumerate(came):
        order[row] = place
    return order


def in_row_order(parts: Sequence[Ragged], shards: Shards) -> Ragged:
    """The ranks' results, one for each row of its shard, in the order of the rows (at least one rank)."""
    for rank, (part, shard) in enumerate(zip(parts, shards, strict=True)):
        if len(part) != len(shard):
            raise ValueError(f"rank {rank} returned {len(part)} rows where it was given {len(shard)}")
    return Ragged.concatenate(parts).select(torch.tensor(row_order(shards), dtype=torch.int64))
