"""A KV cache whose rows have lengths of their own.

    row 0  p p p p a a a . . .      p prompt, a answer, . free; a step writes each row at its own position
    row 1  p p a a a . . . . .      no left padding; rows leave (selection) and enter (concatenation) at any time

One decoding step attends with each group of query heads as the queries of its key-value head, so that grouped-query
models never copy their keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ROW_ATTENTION = "rlkit_rows"


def roomy(longest: int) -> int:
    """Columns to allocate for `longest` used ones: enough that copying costs little beside the reading in between."""
    return longest + 16 + longest // 4


def row_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """query [B, H, T, D], key and value [B, K, S, D]; T == 1 is a decoding step, else a causal prefill without a mask."""
    rows, heads, length, size = query.shape
    if length > 1 or attention_mask is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, None, **options)
        return output
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    scaling = options.get("scaling") or size**-0.5
    attend = _attend_on_cpu if query.device.type == "cpu" else _attend
    return attend(grouped, key, value, attention_mask, scaling).reshape(rows, 1, heads, value.shape[-1]), None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """query [B, K, H / K, D], key and value [B, K, S, D], additive mask [B, 1, 1, S]."""
    expanded = mask.expand(*query.shape[:3], key.shape[2])
    return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=expanded, scale=scaling)


def _attend_on_cpu(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """The same by two matrix products: torch's fused CPU kernel takes up to three times as long for single queries."""
    scores = torch.matmul(query * scaling, key.transpose(2, 3)).add_(mask)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights, value)


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """One layer's keys and values [B, K, capacity, D]; `owner` knows where each row writes."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, owner: RowCache) -> None:
        super().__init__()
        self.keys, self.values, self.owner = keys, values, owner
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        owner = self.owner
        self.keys[owner.row_numbers, :, owner.positions] = key_states[:, :, 0]
        self.values[owner.row_numbers, :, owner.positions] = value_states[:, :, 0]
        return self.keys[:, :, : owner.columns], self.values[:, :, : owner.columns]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the layer is made from a prefill."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.columns, 0

    def get_seq_length(self) -> int:
        return self.owner.columns - 1

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """Keys and values of B rows; before each step `begin_step` fixes where they write.

    lengths [B] int64 tokens already in each row; `longest` is the greatest of them.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor, longest: int) -> None:
        self.lengths, self.longest = lengths, longest
        self.positions = lengths
        self.row_numbers = torch.arange(lengths.shape[0], device=lengths.device)
        self.columns = longest
        super().__init__(layers=[_RowLayer(key, value, self) for key, value in zip(keys, values, strict=True)])

    @property
    def num_rows(self) -> int:
        return int(self.lengths.shape[0])

    def begin_step(self, dtype: torch.dtype) -> Tensor:
        """Make room for one more token a row; returns the additive mask [B, 1, 1, S] of the step."""
        if self.longest >= self.layers[0].keys.shape[2]:
            self._grow(roomy(self.longest))
        self.positions = self.lengths
        self.columns = self.longest + 1
        self.lengths = self.lengths + 1
        self.longest += 1
        columns = torch.arange(self.columns, device=self.lengths.device)
        mask = torch.zeros(self.num_rows, self.columns, dtype=dtype, device=self.lengths.device)
        mask.masked_fill_(columns >= self.lengths[:, None], float("-inf"))
        return mask[:, None, None, :]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in the given order."""
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max()) if rows.numel() else 0
        self.row_numbers = torch.arange(rows.numel(), device=rows.device)
        capacity = roomy(self.longest)  # columns that only rows now gone had filled are given up
        for layer in self.layers:
            layer.keys = layer.keys[:, :, :capacity].index_select(0, rows)
            layer.values = layer.values[:, :, :capacity].index_select(0, rows)

    def append(self, other: RowCache) -> None:
        """Add the rows of `other` after these."""
        capacity = roomy(max(self.longest, other.longest))
        self._grow(capacity)
        other._grow(capacity)
        for layer, more in zip(self.layers, other.layers, strict=True):
            layer.keys = torch.cat([layer.keys, more.keys])
            layer.values = torch.cat([layer.values, more.values])
        self.lengths = torch.cat([self.lengths, other.lengths])
        self.longest = max(self.longest, other.longest)
        self.row_numbers = torch.arange(self.num_rows, device=self.lengths.device)

    def _grow(self, capacity: int) -> None:
        for layer in self.layers:
            layer.keys = _with_capacity(layer.keys, capacity)
            layer.values = _with_capacity(layer.values, capacity)


def _with_capacity(states: Tensor, capacity: int) -> Tensor:
    """`states` [B, K, S, D] with S = `capacity`. The free part is zero: a masked NaN would still poison the sum."""
    kept = min(states.shape[2], capacity)
    grown = states.new_empty(states.shape[0], states.shape[1], capacity, states.shape[3])
    grown[:, :, :kept] = states[:, :, :kept]
    grown[:, :, kept:] = 0
    return grown


AttentionInterface.register(ROW_ATTENTION, row_attention)
