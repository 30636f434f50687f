"""Padding-free forward passes: many sequences laid end to end in one row, each attending only to itself.

    tokens of the batch  [T]  ->  every layer's matrix products on [1, T, hidden], no padding anywhere
    attention alone sees sequences: those of similar length go through one causal SDPA call together

Registered with transformers as the attention implementation `rlkit_packed`, so it works for every architecture whose
attention goes through transformers' attention interface and needs no more than scaling, shared key heads and a sliding
window; anything else an architecture passes (sinks, capped scores) is not applied, so a caller compares first. A causal
query never looks right, hence right padding inside a bucket needs no mask and costs attention only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PACKED_ATTENTION = "rlkit_packed"

LENGTH_RATIO = 0.75
"""A bucket holds sequences at least this long relative to its longest: at most a quarter of its attention is waste."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """Sequences of similar length.

    gather [b, L] int64: flat token index of each position; padding repeats the row's last token
    valid  [b * L] bool, or None when nothing is padding
    """

    gather: Tensor
    valid: Tensor | None


@dataclass(frozen=True, eq=False)
class PackedLayout:
    """Where the sequences of a packed row begin and end, prepared once for all layers.

    position_ids [1, T] int64; buckets cover every token once; order [T] puts the buckets' outputs back in place.
    """

    lengths: tuple[int, ...]
    position_ids: Tensor
    buckets: tuple[Bucket, ...]
    order: Tensor | None

    @classmethod
    def of(cls, lengths: list[int], device: torch.device | str) -> PackedLayout:
        """Layout of sequences with `lengths` tokens each (all at least 1)."""
        sizes = torch.tensor(lengths, dtype=torch.int64)
        starts = sizes.cumsum(0) - sizes
        position_ids = torch.arange(int(sizes.sum())) - torch.repeat_interleave(starts, sizes)
        buckets: list[Bucket] = []
        flat: list[Tensor] = []
        for rows in _buckets_of(lengths):
            index = torch.tensor(rows)
            longest = int(sizes[index].max())
            columns = torch.arange(longest)
            within = torch.minimum(columns[None, :], sizes[index][:, None] - 1)
            gather = starts[index][:, None] + within
            valid = (columns[None, :] < sizes[index][:, None]).flatten()
            flat.append(gather.flatten()[valid])
            buckets.append(Bucket(gather.to(device), None if bool(valid.all()) else valid.to(device)))
        order = torch.argsort(torch.cat(flat))
        in_place = bool((order == torch.arange(len(order))).all())
        return cls(
            lengths=tuple(lengths),
            position_ids=position_ids[None].to(device),
            buckets=tuple(buckets),
            order=None if in_place else order.to(device),
        )


def _buckets_of(lengths: list[int]) -> list[list[int]]:
    """Row numbers grouped so that no row is shorter than LENGTH_RATIO of its group's longest."""
    by_length = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    groups: list[list[int]] = []
    for row in by_length:
        if groups and lengths[row] >= LENGTH_RATIO * lengths[groups[-1][0]]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return [sorted(group) for group in groups]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_layout: PackedLayout | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a packed row.

    query [1, H, T, D], key and value [1, K, T, D] (K divides H: grouped-query attention); returns [1, T, H, D].
    """
    if packed_layout is None:
        raise ValueError("packed attention needs the layout: call the model through `packed_forward`")
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, heads, D]
    outputs: list[Tensor] = []
    for bucket in packed_layout.buckets:
        q, k, v = (_gather(tensor, bucket.gather) for tensor in (query, key, value))  # [b, heads, L, D]
        out = nn.functional.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
            **_causal(q.shape[2], sliding_window, q.device),
        )
        flat = out.transpose(1, 2).flatten(0, 1)  # [b * L, H, D]
        outputs.append(flat if bucket.valid is None else flat[bucket.valid])
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if packed_layout.order is not None:
        joined = joined[packed_layout.order]
    return joined[None], None


def _gather(tokens: Tensor, index: Tensor) -> Tensor:
    """[b, heads, L, D] from [T, heads, D]; index_select because its backward is much faster than indexing's on a CPU."""
    rows = tokens.index_select(0, index.flatten())
    return rows.view(*index.shape, *tokens.shape[1:]).transpose(1, 2)


def _causal(length: int, sliding_window: int | None, device: torch.device) -> dict[str, Any]:
    """Arguments that make SDPA causal; a window shorter than the sequence needs an explicit mask."""
    if sliding_window is None or length <= sliding_window:
        return {"is_causal": True}
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)[None, :]
    return {"attn_mask": (distance >= 0) & (distance < sliding_window)}


def use_packed_attention(model: nn.Module) -> None:
    """Make a transformers model run packed rows; afterwards it must be called through `packed_forward`."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, packed_attention)
    # A name unknown to transformers' mask registry: it then builds no mask at all.
    model.set_attn_implementation(PACKED_ATTENTION)  # type: ignore[operator]


def packed_forward(backbone: nn.Module, token_ids: Tensor, layout: PackedLayout) -> Tensor:
    """Last hidden states [T, hidden] of `token_ids` [T], sequences laid end to end as `layout` says."""
    output = backbone(
        input_ids=token_ids[None],
        position_ids=layout.position_ids,
        use_cache=False,
        packed_layout=layout,
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden
