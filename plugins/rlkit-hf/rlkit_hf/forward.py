"""Passes of a transformers model over rows in progress, behind one small interface.

`RowForward` serves models that attend causally to their own past, everything or a window of it (`RowCache`: rows come and
go, prompts enter beside them). `PaddedForward` serves the rest (linear attention, chunked windows, ...) with
transformers' own caches and left padding: its rows begin together.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from rlkit_hf.attention import ROW_ATTENTION, UnsupportedAttentionError, attending_to
from rlkit_hf.linear import padded_size
from rlkit_hf.row_cache import RowCache

MAX_LOGIT_ELEMENTS = 67_108_864  # logits of one prefill: 256 MiB in float32

CPU_PREFILL_TOKENS = 256  # more are no faster there and only make the intermediate results larger
GPU_SPARE_FRACTION = 0.25  # of the rows in a bin; on the CPU bins grow without copying and need none


class Forward(Protocol):
    """Rows in progress, each named by an object of the caller's. Call `make_room`, then `enter`, then `run`."""

    accepts_more: bool  # whether rows may enter while others are in progress
    max_prefill_tokens: int  # of all that enter together

    @property
    def allocated_tokens(self) -> int:
        """Of the KV cache."""
        ...

    def capacity_for(self, tokens: int) -> int:
        """What a row of so many tokens takes of the budget."""
        ...

    def make_room(self, *, force: bool = False) -> bool:
        """Room for one more token in each row; False when the budget is short and `force` does not override it."""
        ...

    def order(self) -> Sequence[Hashable]:
        """The rows in progress, in the order of `run`. `make_room`, `enter` and `remove` change it."""
        ...

    def enter(self, token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        """Have `rows` begin with `token_ids`, computed once, in the next `run`; False when there is no room."""
        ...

    def run(self, tokens: Sequence[int]) -> Tensor:
        """Append a token to each row in progress; logits [B, V] of those, then of the rows that entered, in order."""
        ...

    def remove(self, rows: Sequence[Hashable]) -> None:
        """Forget rows."""
        ...

    def clear(self) -> None:
        """Forget all rows and free their memory."""
        ...


def forward_for(model: Any, *, budget_tokens: int, max_prefill_tokens: int) -> Forward:
    """The fastest way to run `model`, with a KV cache of at most `budget_tokens` tokens."""
    if _attends_to_own_past(model):
        before = model.config._attn_implementation
        model.set_attn_implementation(ROW_ATTENTION)
        forward = RowForward(model, budget_tokens, max_prefill_tokens)
        try:
            _try_out(forward)
        except UnsupportedAttentionError:
            model.set_attn_implementation(before)
        else:
            return forward
    return PaddedForward(model, budget_tokens, max_prefill_tokens)


@torch.inference_mode()
def _try_out(forward: Forward) -> None:
    forward.enter([0, 0], [None], force=True)
    forward.run([])
    forward.clear()


def _attends_to_own_past(model: Any) -> bool:
    if not (getattr(model, "_supports_attention_backend", False) and getattr(model, "_supports_sdpa", False)):
        return False
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in _empty_cache(model).layers)


def _empty_cache(model: Any) -> Any:
    return DynamicCache(config=model.config)


class RowForward:
    """One line of tokens a pass: a token of each row in progress, and whole prompts beside them."""

    accepts_more = True

    def __init__(self, model: Any, budget_tokens: int, max_prefill_tokens: int) -> None:
        self._model = model
        on_cpu = model.device.type == "cpu"
        spare = 0.0 if on_cpu else GPU_SPARE_FRACTION
        self._cache = RowCache(len(_empty_cache(model).layers), budget_tokens, spare_fraction=spare)
        self._selects_positions = "logits_to_keep" in inspect.signature(model.forward).parameters
        vocabulary = model.config.get_text_config().vocab_size
        most = max_prefill_tokens if self._selects_positions else MAX_LOGIT_ELEMENTS // vocabulary
        self.max_prefill_tokens = min(max_prefill_tokens, most, CPU_PREFILL_TOKENS if on_cpu else most)

    @property
    def allocated_tokens(self) -> int:
        return self._cache.allocated_tokens

    def capacity_for(self, tokens: int) -> int:
        return self._cache.capacity_for(tokens)

    def make_room(self, *, force: bool = False) -> bool:
        return self._cache.make_room(force=force)

    def order(self) -> Sequence[Hashable]:
        return self._cache.order()

    def enter(self, token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        return self._cache.enter(token_ids, rows, force=force)

    def run(self, tokens: Sequence[int]) -> Tensor:
        cache, device = self._cache, self._model.device
        cache.begin(self._model.dtype, device)
        ids, positions, last = _line(cache, tokens)
        options: dict[str, Any] = {}
        kept = torch.tensor(last + [0] * (padded_size(len(last)) - len(last))).to(device)
        if self._selects_positions:
            options["logits_to_keep"] = kept
        with attending_to(cache):
            output = self._model(
                input_ids=torch.tensor([ids]).to(device),
                position_ids=torch.tensor([positions]).to(device),
                past_key_values=cache,
                use_cache=True,
                **options,
            )
        cache.end()
        logits: Tensor = output.logits[0] if self._selects_positions else output.logits[0, kept]
        return logits[: len(last)]

    def remove(self, rows: Sequence[Hashable]) -> None:
        self._cache.remove(rows)

    def clear(self) -> None:
        self._cache.clear()


def _line(cache: RowCache, tokens: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Token ids and positions of the pass, and where in it each row's last token is."""
    ids, positions = list(tokens), [length - 1 for part in cache.decode_parts for length in part.row_lengths]
    ends: dict[int, int] = {}
    for block in cache.prefill_parts:
        for entry in block.entries:
            ends[id(entry)] = len(ids) + len(entry.token_ids) - 1
            ids += [*entry.token_ids, *[0] * (block.length - len(entry.token_ids))]
            positions += range(block.length)
    ids += [0] * cache.padding
    positions += [0] * cache.padding
    last = list(range(len(tokens)))
    last += [ends[id(entry)] for entry in cache.entries for _ in range(entry.count)]
    return ids, positions, last


class PaddedForward:
    """Rows that begin together: prompts padded on the left, all answers growing by a column a pass."""

    accepts_more = False

    def __init__(self, model: Any, budget_tokens: int, max_prefill_tokens: int) -> None:
        self._model = model
        self._budget_tokens = budget_tokens
        self.max_prefill_tokens = max_prefill_tokens
        self._rows: list[Hashable] = []
        self._entries: list[tuple[Sequence[int], int]] = []
        self._cache: Any = None
        self._mask = torch.zeros(0)
        self._columns = 0

    @property
    def allocated_tokens(self) -> int:
        return len(self._rows) * self._columns

    def capacity_for(self, tokens: int) -> int:
        return tokens

    def make_room(self, *, force: bool = False) -> bool:
        return force or len(self._rows) * (self._columns + 1) <= self._budget_tokens

    def order(self) -> Sequence[Hashable]:
        return self._rows

    def enter(self, token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        columns = max(self._columns, len(token_ids))
        if not force and (len(self._rows) + len(rows)) * (columns + 1) > self._budget_tokens:
            return False
        self._columns = columns
        self._rows = [*self._rows, *rows]
        self._entries.append((token_ids, len(rows)))
        return True

    def run(self, tokens: Sequence[int]) -> Tensor:
        device = self._model.device
        if self._entries:
            return self._prefill(device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(self._mask.shape[0], 1)], dim=1)
        self._columns += 1
        return self._pass(torch.tensor(tokens).to(device)[:, None], self._mask.sum(1, keepdim=True) - 1)

    def remove(self, rows: Sequence[Hashable]) -> None:
        gone = set(rows)
        kept = [number for number, row in enumerate(self._rows) if row not in gone]
        if not kept:
            self.clear()
            return
        self._rows = [self._rows[number] for number in kept]
        self._keep(torch.tensor(kept).to(self._model.device))

    def clear(self) -> None:
        self._rows, self._entries, self._cache, self._columns = [], [], None, 0

    def _prefill(self, device: Any) -> Tensor:
        longest = self._columns
        prompts = [token_ids for token_ids, _ in self._entries]
        ids = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts]).to(device)
        self._mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]).to(device)
        self._cache = _empty_cache(self._model)
        logits = self._pass(ids, (self._mask.cumsum(1) - 1).clamp(min=0))
        expand = torch.repeat_interleave(torch.tensor([count for _, count in self._entries])).to(device)
        self._entries = []
        self._keep(expand)
        return logits[expand]

    def _keep(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._cache.reorder_cache(rows)

    def _pass(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
