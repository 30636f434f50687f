"""Rows split into micro-batches by a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def split_by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Row numbers in micro-batches of at most `budget` tokens; a longer row goes alone.

    As few micro-batches as a first-fit-decreasing packing finds; rows stay in ascending order inside each. The same
    lengths always give the same split.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        for index, free in enumerate(room):
            if lengths[row] <= free:
                bins[index].append(row)
                room[index] -= lengths[row]
                break
        else:
            bins.append([row])
            room.append(budget - lengths[row])
    return [sorted(rows) for rows in bins]
