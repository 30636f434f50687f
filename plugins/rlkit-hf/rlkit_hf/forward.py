"""Prefill and decoding steps on a transformers model, behind one small interface.

`RowForward` serves every model with plain full attention (`RowCache`: no padding in the answers, rows come and go).
`PaddedForward` serves the rest (sliding windows, linear attention, ...) with transformers' own caches and left padding.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rlkit_hf.row_cache import ROW_ATTENTION, RowCache

MAX_LOGIT_ELEMENTS = 67_108_864  # logits of one prefill: 256 MiB in float32

TokenRows = Sequence[Sequence[int]]


class Forward(Protocol):
    """Rows in progress. Logits are [rows, V], for the next token of each row."""

    accepts_more: bool  # whether `add` may be called while rows are in progress

    def add(self, prompts: TokenRows, repeats: Sequence[int]) -> Tensor:
        """Prefill each prompt once and add `repeats[i]` rows that continue prompt i, after the present rows; their logits."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token [rows] to each row."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep the given rows, in the given order."""
        ...

    def clear(self) -> None:
        """Forget all rows."""
        ...


def forward_for(model: Any, max_prefill_tokens: int) -> Forward:
    """The fastest way to run `model`."""
    if has_plain_attention(model):
        return RowForward(model, max_prefill_tokens)
    return PaddedForward(model)


def has_plain_attention(model: Any) -> bool:
    """Whether every layer keeps all keys and attends through transformers' attention interface."""
    if not (getattr(model, "_supports_attention_backend", False) and getattr(model, "_supports_sdpa", False)):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def use_attention(model: Any) -> None:
    """Prepare a freshly built model for `forward_for`."""
    if has_plain_attention(model):
        model.set_attn_implementation(ROW_ATTENTION)


class RowForward:
    """Rows of any length side by side, prefilled with right padding (causal attention never sees it)."""

    accepts_more = True

    def __init__(self, model: Any, max_prefill_tokens: int) -> None:
        self._model = model
        self._max_prefill_tokens = max_prefill_tokens
        self._cache: RowCache | None = None
        self._selects_positions = "logits_to_keep" in inspect.signature(model.forward).parameters

    def add(self, prompts: TokenRows, repeats: Sequence[int]) -> Tensor:
        logits: list[Tensor] = []
        for start, end in self._chunks(prompts):
            chunk_logits, cache = self._prefill(prompts[start:end])
            expand = torch.repeat_interleave(torch.tensor(repeats[start:end], dtype=torch.int64)).to(
                chunk_logits.device
            )
            cache.select(expand)
            if self._cache is None:
                self._cache = cache
            else:
                self._cache.append(cache)
            logits.append(chunk_logits[expand])
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def step(self, tokens: Tensor) -> Tensor:
        cache = self._cache
        assert cache is not None
        mask = cache.begin_step(self._model.dtype)
        output = self._model(
            input_ids=tokens[:, None],
            position_ids=cache.positions[:, None],
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def select(self, rows: Tensor) -> None:
        assert self._cache is not None
        self._cache.select(rows)

    def clear(self) -> None:
        self._cache = None

    def _chunks(self, prompts: TokenRows) -> list[tuple[int, int]]:
        """Runs of prompts small enough for one forward pass, in tokens and in logits."""
        vocabulary = self._model.config.get_text_config().vocab_size
        chunks: list[tuple[int, int]] = []
        start = longest = 0
        lengths: set[int] = set()
        for index, prompt in enumerate(prompts):
            longest = max(longest, len(prompt))
            lengths.add(len(prompt))
            count = index + 1 - start
            logits = count * (len(lengths) if self._selects_positions else longest) * vocabulary
            if count > 1 and (count * longest > self._max_prefill_tokens or logits > MAX_LOGIT_ELEMENTS):
                chunks.append((start, index))
                start, longest, lengths = index, len(prompt), {len(prompt)}
        chunks.append((start, len(prompts)))
        return chunks

    def _prefill(self, prompts: TokenRows) -> tuple[Tensor, RowCache]:
        """Logits [P, V] after each prompt, and a cache with one row a prompt."""
        device = self._model.device
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        cache = DynamicCache(config=self._model.config)
        options: dict[str, Any] = {}
        column = lengths - 1
        if self._selects_positions:
            kept, column = torch.unique(lengths - 1, return_inverse=True)
            options["logits_to_keep"] = kept
        output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **options)
        logits = output.logits[torch.arange(len(prompts), device=device), column]
        keys = [layer.keys for layer in cache.layers]
        values = [layer.values for layer in cache.layers]
        return logits, RowCache(keys, values, lengths, longest)


class PaddedForward:
    """Rows of one length: prompts padded on the left, all answers growing together."""

    accepts_more = False

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self._mask = torch.zeros(0)

    def add(self, prompts: TokenRows, repeats: Sequence[int]) -> Tensor:
        device = self._model.device
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts], device=device)
        self._mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        self._cache = DynamicCache(config=self._model.config)
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        logits = self._run(ids, positions)
        expand = torch.repeat_interleave(torch.tensor(repeats, dtype=torch.int64)).to(device)
        self.select(expand)
        return logits[expand]

    def step(self, tokens: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(self._mask.shape[0], 1)], dim=1)
        return self._run(tokens[:, None], self._mask.sum(1, keepdim=True) - 1)

    def select(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._cache.reorder_cache(rows)

    def clear(self) -> None:
        self._cache = None

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
