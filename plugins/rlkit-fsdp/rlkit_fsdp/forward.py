"""Forward passes over all rows of a batch, micro-batch by micro-batch, results back in row order."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from rlkit.data.silent_rows import silent_rollouts
from rlkit.types import Ragged, Rollouts
from rlkit_fsdp.micro_batches import split_rollouts
from rlkit_fsdp.packed_rows import PackedRows, pack_rollouts
from rlkit_fsdp.sharding import Sharding


def forward_rows(
    rollouts: Rollouts,
    forward: Callable[[PackedRows], tuple[Tensor, ...]],
    *,
    budget: int,
    sharding: Sharding,
    root: nn.Module,
) -> tuple[Ragged, ...]:
    """`forward` gives tensors [N] aligned with the response tokens of its rows; here they come for all rows, on the CPU.

    Collective; each rank gives and gets its own rows, of which there may be none.
    """
    batches, _ = sharding.ranks.agree(split_rollouts(rollouts, budget, sharding.ranks.device) or [[]], ())
    parts: list[tuple[Ragged, ...]] = []
    with sharding.without_gradients(root):
        for rows in batches:
            chosen = rollouts.select(rows) if rows else silent_rollouts(rollouts)
            outputs = forward(pack_rollouts(chosen, sharding.ranks.device))
            aligned = (chosen.response_ids.with_values(output.cpu()) for output in outputs)
            parts.append(tuple(aligned if rows else (ragged.select([]) for ragged in aligned)))
    position = {row: place for place, row in enumerate(row for rows in batches for row in rows)}
    in_order = [position[row] for row in range(len(rollouts))]
    return tuple(Ragged.concatenate(column).select(in_order) for column in zip(*parts, strict=True))
