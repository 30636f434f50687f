"""A look, once for each model, at whether it gives the same numbers padding-free as in transformers' own forward pass.

Some architectures do more than attend and multiply by a head (scaled or capped logits, attention sinks, convolutions and
recurrent layers that run on from one row into the next). Packed, they would train on wrong log-probs and nobody would
notice, so they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlkit.errors import ModelError
from rlkit.models.packed import PackedLayout
from rlkit.models.packed_agreement import TOLERANCES, relative_difference
from rlkit_fsdp.packed_rows import PackedRows

ROW_LENGTHS = (9, 6)
"""Two rows in one bucket, one of them padded; the second notices anything that runs on from the first."""


def probe_rows(vocab_size: int, device: torch.device) -> PackedRows:
    """Random rows; every token but a row's first is a target."""
    layout = PackedLayout.of(list(ROW_LENGTHS), device)
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(vocab_size, (sum(ROW_LENGTHS),), generator=generator).to(device)
    targets_at = (layout.position_ids[0] > 0).nonzero()[:, 0]
    return PackedRows(token_ids, layout, targets_at - 1, token_ids[targets_at])


@torch.no_grad()
def plain_log_probs(model: Any, rows: PackedRows) -> Tensor:
    """Log-probs [N] of the targets, by the model's own forward pass on each row alone."""
    parts: list[Tensor] = []
    for row in torch.split(rows.token_ids, list(ROW_LENGTHS)):
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1].float()
        parts.append(torch.log_softmax(logits, dim=-1).gather(1, row[1:, None])[:, 0])
    return torch.cat(parts)


@torch.no_grad()
def plain_hidden_states(backbone: Any, rows: PackedRows) -> Tensor:
    """Last hidden states [T, hidden], by the backbone's own forward pass on each row alone."""
    pieces = torch.split(rows.token_ids, list(ROW_LENGTHS))
    return torch.cat([backbone(input_ids=piece[None], use_cache=False).last_hidden_state[0] for piece in pieces])


@torch.no_grad()
def check_packed(name: str, expected: Tensor, compute_packed: Callable[[], Tensor], dtype: torch.dtype) -> None:
    """Raises `ModelError` when `compute_packed` fails or gives other numbers than `expected`; `dtype` is the parameters'."""
    advice = "the architecture cannot be trained with actor backend 'fsdp'"
    try:
        packed = compute_packed()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{name} cannot run padding-free ({reason}); {advice}") from error
    difference = relative_difference(expected, packed)
    # Not `>`: a NaN is a difference too.
    if not difference <= TOLERANCES[dtype]:
        raise ModelError(
            f"{name} gives other numbers when run padding-free (off by {difference:.1%} of their spread); {advice}"
        )
