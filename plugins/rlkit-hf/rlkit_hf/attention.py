"""Attention over a line of tokens that belong to many rows; registered with transformers as `rlkit_rows`.

A row that decodes attends, with the query heads of each key-value head together, to the bin that it is in: grouped-query
models never copy their keys. Prompts that enter attend to themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from rlkit_hf.row_cache import DecodePart, PrefillPart, RowCache

ROW_ATTENTION = "rlkit_rows"

_cache: ContextVar[RowCache] = ContextVar("_cache")

HARMLESS = {"dropout", "is_causal", "position_ids", "use_cache", "output_attentions", "output_hidden_states"}
"""What models hand to attention besides scaling and sliding_window, without a meaning here."""

QUERY_BLOCK = 256
"""Queries of a prompt longer than the window that attend together: they read so many keys more than the window has."""


class UnsupportedAttentionError(Exception):
    """The model wants something of attention that this module does not do."""


@contextmanager
def attending_to(cache: RowCache) -> Iterator[None]:
    """Within, the model's attention layers read and write `cache`."""
    token = _cache.set(cache)
    try:
        yield
    finally:
        _cache.reset(token)


def row_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query [1, H, T, D], key and value [1, K, T, D] of the tokens in the line -> [1, T, H, D].

    sliding_window: a token sees itself and the `sliding_window - 1` before it.
    """
    unknown = {name for name, given in options.items() if given is not None} - HARMLESS
    if unknown or attention_mask is not None or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError(", ".join(sorted(unknown)) or "a mask")
    cache = _cache.get()
    layer: Any = module.layer_idx
    if key is not cache.layers[layer].newest:
        raise UnsupportedAttentionError("keys that are computed from what is cached")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries = query[0].transpose(0, 1)  # [T, H, D]
    outputs = [_decode(part, layer, queries, scale, sliding_window) for part in cache.decode_parts]
    outputs += [_prefill(part, query, key, value, scale, sliding_window) for part in cache.prefill_parts]
    if cache.padding:
        outputs.append(outputs[0].new_zeros(cache.padding, *outputs[0].shape[1:]))
    line = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return line[None], None


def _decode(part: DecodePart, layer: int, queries: Tensor, scale: float, window: int | None) -> Tensor:
    """[n, H, D] for the n rows of one bin.

    By two matrix products: torch's fused CPU kernel takes up to three times as long for single queries.
    """
    count = part.end - part.start
    keys = part.bin.keys[layer][:count, :, :, : part.columns]
    values = part.bin.values[layer][:count, :, :, : part.columns]
    heads, size = queries.shape[1:]
    grouped = queries[part.start : part.end].reshape(count, keys.shape[1], heads // keys.shape[1], size)
    scores = torch.matmul(grouped * scale, keys)
    scores += part.mask
    if window is not None and part.columns > window:
        columns = torch.arange(part.columns, device=scores.device)
        scores.masked_fill_(columns < part.lengths - window, float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    # [D, S] x [S, H / K] takes two thirds of the time of the product the other way around.
    return torch.matmul(values, weights.transpose(2, 3)).transpose(2, 3).reshape(count, heads, values.shape[2])


def _prefill(
    block: PrefillPart,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
) -> Tensor:
    """[tokens, H, D] for prompts padded on the right: causal attention never sees the padding."""
    length = block.length

    def prompts(states: Tensor) -> Tensor:  # [1, K, T, D] -> [n, K, length, D]
        line = states[0, :, block.start : block.end]
        return line.view(line.shape[0], -1, length, line.shape[2]).transpose(0, 1)

    queries, keys, values = prompts(query), prompts(key), prompts(value)
    if window is None or length <= window:
        output = nn.functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, scale=scale, enable_gqa=queries.shape[1] != keys.shape[1]
        )
    else:
        output = _prefill_by_windows(queries, keys, values, scale, window)
    return output.transpose(1, 2).flatten(0, 1)


def _prefill_by_windows(queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int) -> Tensor:
    """[n, H, length, D]: `QUERY_BLOCK` queries at a time against the keys that any of them sees.

    Neither the scores nor the mask of a whole prompt are ever there: both would grow with the square of its length.
    """
    repeats, length = queries.shape[1] // keys.shape[1], queries.shape[2]
    outputs: list[Tensor] = []
    for start in range(0, length, QUERY_BLOCK):
        end, first = min(start + QUERY_BLOCK, length), max(0, start + 1 - window)
        places = torch.arange(first, end, device=queries.device)
        distance = places[start - first :, None] - places
        outputs.append(
            nn.functional.scaled_dot_product_attention(
                queries[:, :, start:end],
                # Repeated for each query head: fused kernels that take a mask do not group heads.
                keys[:, :, first:end].repeat_interleave(repeats, 1),
                values[:, :, first:end].repeat_interleave(repeats, 1),
                attn_mask=(distance >= 0) & (distance < window),
                scale=scale,
            )
        )
    return torch.cat(outputs, dim=2)


AttentionInterface.register(ROW_ATTENTION, row_attention)
