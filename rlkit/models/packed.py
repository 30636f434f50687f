"""Padding-free forward passes: many sequences laid end to end in one row, each attending only to itself.

    tokens of the batch  [T]  ->  every layer's matrix products on [1, T, hidden], no padding anywhere
    attention alone sees sequences: on a CPU one causal SDPA call each; elsewhere, where a call costs more than padding,
    one for all of similar length

Several sequences may go on from the same beginning: answers to one prompt. Then the prompt's tokens are in the row once,
and each answer attends to the prompt's keys and values and to its own.

Registered with transformers as the attention implementation `rlkit_packed`, so it works for every architecture whose
attention goes through transformers' attention interface and needs no more than scaling, shared key heads and a sliding
window; anything else an architecture passes (sinks, capped scores) is not applied, so a caller compares first. A causal
query never looks right, hence right padding inside a bucket needs no mask and costs attention only.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Where the segments of a packed row begin and end, prepared once for all layers.

    lengths        tokens of each segment, end to end
    continues      for each segment the number of the segment it goes on from, or -1: a sequence of its own
    position_ids   [1, T] int64; a segment that continues counts on from the end of its beginning
    buckets        of whole sequences, covering every token once; None: one attention call for each segment
    order          [T] puts the buckets' outputs back in place; None: they are
    """

    lengths: tuple[int, ...]
    continues: tuple[int, ...]
    position_ids: Tensor
    buckets: tuple[Bucket, ...] | None
    order: Tensor | None

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        device: torch.device | str,
        *,
        continues: Sequence[int] | None = None,
        bucketed: bool | None = None,
    ) -> PackedLayout:
        """Layout of segments with `lengths` tokens each (all at least 1).

        continues: as the field; a beginning is itself no continuation. `bucketed`: sequences of similar length share an
        attention call; by default everywhere but on a CPU, and impossible with continuations.
        """
        starts_at = [0 if begin < 0 else lengths[begin] for begin in continues or [-1] * len(lengths)]
        sizes = torch.tensor(lengths, dtype=torch.int64)
        offsets = sizes.cumsum(0) - sizes
        shift = torch.tensor(starts_at, dtype=torch.int64) - offsets
        position_ids = torch.arange(int(sizes.sum())) + torch.repeat_interleave(shift, sizes)
        buckets, order = None, None
        if bucketed is None:
            bucketed = continues is None and torch.device(device).type != "cpu"
        if bucketed:
            buckets, order = _make_buckets(sizes, offsets, device)
        return cls(
            lengths=tuple(lengths),
            continues=tuple(continues or [-1] * len(lengths)),
            position_ids=position_ids[None].to(device),
            buckets=buckets,
            order=order,
        )


def _make_buckets(
    sizes: Tensor, starts: Tensor, device: torch.device | str
) -> tuple[tuple[Bucket, ...], Tensor | None]:
    """Buckets of sequences with `sizes` tokens from `starts`, and the order that undoes them."""
    buckets: list[Bucket] = []
    flat: list[Tensor] = []
    for rows in _buckets_of(sizes.tolist()):
        index = torch.tensor(rows)
        columns = torch.arange(int(sizes[index].max()))
        within = torch.minimum(columns[None, :], sizes[index][:, None] - 1)
        gather = starts[index][:, None] + within
        valid = (columns[None, :] < sizes[index][:, None]).flatten()
        flat.append(gather.flatten()[valid])
        buckets.append(Bucket(gather.to(device), None if bool(valid.all()) else valid.to(device)))
    order = torch.argsort(torch.cat(flat))
    in_place = bool((order == torch.arange(len(order))).all())
    return tuple(buckets), None if in_place else order.to(device)


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
    attend = _attend_by_segment if packed_layout.buckets is None else _attend_by_bucket
    settings = {"scale": scaling, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    return attend(query, key, value, packed_layout, sliding_window, settings), None


def _attend_by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    sliding_window: int | None,
    settings: dict[str, Any],
) -> Tensor:
    """One call for each segment, on views: nothing is copied, and the backward of all the views is one concatenation."""
    queries, keys, values = (torch.split(tensor, list(layout.lengths), dim=2) for tensor in (query, key, value))
    outputs: list[Tensor] = []
    for segment, begin in enumerate(layout.continues):
        k, v = keys[segment], values[segment]
        if begin >= 0:
            k, v = torch.cat((keys[begin], k), dim=2), torch.cat((values[begin], v), dim=2)
        q = queries[segment]
        mask = _causal(q.shape[2], k.shape[2], sliding_window, q.device)
        out = nn.functional.scaled_dot_product_attention(q, k, v, **mask, **settings)
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _attend_by_bucket(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    sliding_window: int | None,
    settings: dict[str, Any],
) -> Tensor:
    """One call for all sequences of similar length."""
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, heads, D]
    outputs: list[Tensor] = []
    for bucket in layout.buckets or ():
        q, k, v = (_gather(tensor, bucket.gather) for tensor in (query, key, value))  # [b, heads, L, D]
        mask = _causal(q.shape[2], q.shape[2], sliding_window, q.device)
        out = nn.functional.scaled_dot_product_attention(q, k, v, **mask, **settings)
        flat = out.transpose(1, 2).flatten(0, 1)  # [b * L, H, D]
        outputs.append(flat if bucket.valid is None else flat[bucket.valid])
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if layout.order is not None:
        joined = joined[layout.order]
    return joined[None]


def _gather(tokens: Tensor, index: Tensor) -> Tensor:
    """[b, heads, L, D] from [T, heads, D]; index_select because its backward is much faster than indexing's on a CPU."""
    rows = tokens.index_select(0, index.flatten())
    return rows.view(*index.shape, *tokens.shape[1:]).transpose(1, 2)


def _causal(queries: int, keys: int, sliding_window: int | None, device: torch.device) -> dict[str, Any]:
    """Arguments that make SDPA causal, the last query at the last key.

    More keys than queries, or a window shorter than the sequence, need an explicit mask.
    """
    if queries == keys and (sliding_window is None or keys <= sliding_window):
        return {"is_causal": True}
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)[None, :]
    visible = distance >= 0
    return {"attn_mask": visible if sliding_window is None else visible & (distance < sliding_window)}


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
