"""Forward passes over all rows of a batch, micro-batch by micro-batch, results back in row order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlkit.types import Ragged, Rollouts
from rlkit_fsdp.micro_batches import split_by_tokens
from rlkit_fsdp.packed_rows import PackedRows, pack_rollouts, row_lengths


@torch.no_grad()
def forward_rows(
    rollouts: Rollouts, forward: Callable[[PackedRows], tuple[Tensor, ...]], *, budget: int, device: str
) -> tuple[Ragged, ...]:
    """`forward` gives tensors [N] aligned with the response tokens of its rows; here they come for all rows, on the CPU."""
    batches = split_by_tokens(row_lengths(rollouts), budget)
    parts: list[tuple[Ragged, ...]] = []
    for rows in batches:
        chosen = rollouts.select(rows)
        outputs = forward(pack_rollouts(chosen, device))
        parts.append(tuple(chosen.response_ids.with_values(output.cpu()) for output in outputs))
    position = {row: place for place, row in enumerate(row for rows in batches for row in rows)}
    in_order = [position[row] for row in range(len(rollouts))]
    return tuple(Ragged.concatenate(column).select(in_order) for column in zip(*parts, strict=True))
