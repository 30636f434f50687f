"""A KV cache of rows that come, grow and go on their own, within a budget of tokens.

    one pass of the model:   [ row row row row | row row row | p p p p p p p p ]     tokens, side by side in one line
                               bin of 64 tokens   bin of 80     prompts that enter

Each row is in the bin for its length and moves to the next one as it grows, so that a step reads what rows hold and not
the longest of them. The budget counts the tokens that are allocated, free slots included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from rlkit_hf.bins import CAPACITY_STEP, Bin, next_capacity
from rlkit_hf.linear import padded_size

PADDING_FRACTION = 0.15
"""Prompts of nearly the same length are prefilled as one block, padded by at most this much."""


@dataclass(frozen=True, eq=False)
class DecodePart:
    """Rows of one bin with one token each: `start` to `end` in the line of tokens.

    columns      how many the longest of them has, its new token included
    row_lengths  tokens of each, the new one included
    positions    [n] where each row's new token goes
    lengths      row_lengths, [n, 1, 1, 1]
    mask         [n, 1, 1, columns] additive, 0 or -inf
    """

    bin: Bin
    start: int
    end: int
    columns: int
    row_lengths: Sequence[int]
    slots: Tensor
    positions: Tensor
    lengths: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Entry:
    """Rows that begin with the same tokens, in slots `slot` to `slot + count` of a bin."""

    token_ids: Sequence[int]
    bin: Bin
    slot: int
    count: int


@dataclass(frozen=True, eq=False)
class PrefillPart:
    """`entries` whose tokens, padded to `length`, are in the line from `start`."""

    start: int
    length: int
    entries: tuple[Entry, ...]

    @property
    def end(self) -> int:
        return self.start + self.length * len(self.entries)


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """Writes one layer's new keys and values, [1, K, T, D], to the bins; attention reads them there."""

    is_sliding = False

    def __init__(self, owner: RowCache, number: int) -> None:
        super().__init__()
        self.owner, self.number = owner, number
        self.newest: Tensor | None = None
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        keys, values = key_states[0].transpose(0, 1), value_states[0].transpose(0, 1)  # [T, K, D]
        for part in self.owner.decode_parts:
            part.bin.keys[self.number][part.slots, :, :, part.positions] = keys[part.start : part.end]
            part.bin.values[self.number][part.slots, :, :, part.positions] = values[part.start : part.end]
        for block in self.owner.prefill_parts:
            for position, entry in enumerate(block.entries):
                start, length = block.start + position * block.length, len(entry.token_ids)
                self._store(entry, keys[start : start + length], values[start : start + length])
        self.newest = key_states
        return key_states, value_states

    def _store(self, entry: Entry, keys: Tensor, values: Tensor) -> None:
        slots = slice(entry.slot, entry.slot + entry.count)
        entry.bin.shape_layer(self.number, keys, values)
        entry.bin.keys[self.number][slots, :, :, : keys.shape[0]] = keys.permute(1, 2, 0)
        entry.bin.values[self.number][slots, :, :, : values.shape[0]] = values.permute(1, 2, 0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: bins are allocated by the first entry."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """Holds rows, named by any hashable object, and plans each pass of the model over them.

    budget_tokens    what may be allocated; a row that is alone may exceed it
    spare_fraction   free slots that a bin that grows gets besides, of its rows: 0 where bins grow without copying
    entries                       what entered since the last pass, in that order
    decode_parts, prefill_parts   of the pass in progress
    """

    def __init__(self, num_layers: int, budget_tokens: int, *, spare_fraction: float = 0.25) -> None:
        self.budget_tokens = budget_tokens
        self._spare_fraction = spare_fraction
        self.bins = [Bin(2 * CAPACITY_STEP)]  # ascending; longer rows add their own
        self.decode_parts: list[DecodePart] = []
        self.prefill_parts: list[PrefillPart] = []
        self.padding = 0
        self._places: dict[Hashable, tuple[Bin, int]] = {}
        self.entries: list[Entry] = []
        super().__init__(layers=[_RowLayer(self, number) for number in range(num_layers)])

    @property
    def num_rows(self) -> int:
        return len(self._places)

    @property
    def allocated_tokens(self) -> int:
        return sum(b.allocated_tokens for b in self.bins)

    def capacity_for(self, tokens: int) -> int:
        """Of the bin that a row of so many tokens is in."""
        return self._bin_for(tokens).capacity

    def order(self) -> list[Hashable]:
        """The rows in the order in which `begin` takes their tokens."""
        return [row for b in self.bins for row in b.rows]

    def enter(self, token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        """Take in `rows` that begin with `token_ids`, to be prefilled in the next pass; False when there is no room."""
        target = self._bin_for(len(token_ids) + 1)
        if not self._allocate(target, len(rows), force=force):
            return False
        first = len(target.rows)
        for row in rows:
            self._places[row] = (target, target.add(row, len(token_ids)))
        self.entries.append(Entry(token_ids, target, first, len(rows)))
        return True

    def make_room(self, *, force: bool = False) -> bool:
        """Give every row place for one more token; False when the budget is short (some rows may have moved)."""
        for source in reversed(self.bins):
            full = [slot for slot, length in enumerate(source.lengths) if length == source.capacity]
            if not full:
                continue
            target = self._bin_for(source.capacity + 1)
            if not self._allocate(target, len(full), force=force):
                return False
            for slot in reversed(full):
                row = source.rows[slot]
                new_slot = target.add(row, source.lengths[slot])
                source.copy_row(slot, target, new_slot)
                self._remove(row)
                self._places[row] = (target, new_slot)
            self._give_back(source)
        return True

    def remove(self, rows: Sequence[Hashable]) -> None:
        for row in sorted(rows, key=lambda row: -self._places[row][1]):  # from the end, so that few rows move
            self._remove(row)
        for b in self.bins:
            self._give_back(b)

    def clear(self) -> None:
        self._places.clear()
        self.end()
        for b in self.bins:
            b.clear()

    def begin(self, dtype: torch.dtype, device: torch.device) -> None:
        """Plan the pass: one token for each row that `make_room` gave place, and all of those that entered since.

        The line of tokens ends with `padding` tokens that belong to no row.
        """
        start = 0
        self.decode_parts = []
        entered = Counter(entry.bin for entry in self.entries for _ in range(entry.count))
        for b in self.bins:
            count = len(b.rows) - entered[b]
            if count:
                self.decode_parts.append(_decode_part(b, start, count, dtype, device))
                start += count
        self.prefill_parts = []
        for block in _blocks(self.entries):
            longest = max(len(entry.token_ids) for entry in block)
            self.prefill_parts.append(PrefillPart(start, longest, tuple(block)))
            start = self.prefill_parts[-1].end
        self.padding = padded_size(start) - start

    def end(self) -> None:
        """The pass is done."""
        self.decode_parts, self.prefill_parts, self.entries = [], [], []

    def _remove(self, row: Hashable) -> None:
        b, slot = self._places.pop(row)
        moved = b.remove(slot)
        if moved is not None:
            self._places[moved] = (b, slot)

    def _bin_for(self, tokens: int) -> Bin:
        while self.bins[-1].capacity < tokens:
            self.bins.append(Bin(next_capacity(self.bins[-1].capacity)))
        return next(b for b in self.bins if b.capacity >= tokens)

    def _allocate(self, target: Bin, more: int, *, force: bool) -> bool:
        """Have `more` free slots in `target`, with some to spare where the budget allows."""
        needed = len(target.rows) + more
        if needed <= target.slots:
            return True
        others = self.allocated_tokens - target.allocated_tokens
        room = (self.budget_tokens - others) // target.capacity
        if room < needed:
            self._give_up_free_slots(target)
            others = self.allocated_tokens - target.allocated_tokens
            room = (self.budget_tokens - others) // target.capacity
        if room < needed and not force:
            return False
        target.resize(max(needed, min(room, needed + self._spare(needed))))
        return True

    def _spare(self, rows: int) -> int:
        return math.ceil(self._spare_fraction * rows)

    def _give_back(self, b: Bin) -> None:
        """Free a bin's memory, or what it has beyond the spare slots when that is as many again."""
        count = len(b.rows)
        if not count:
            b.clear()
        elif b.slots > count + 2 * self._spare(count):
            b.resize(count + self._spare(count))

    def _give_up_free_slots(self, target: Bin) -> None:
        for b in self.bins:
            if b is not target and b.slots > len(b.rows):
                b.resize(len(b.rows))


def _decode_part(b: Bin, start: int, count: int, dtype: torch.dtype, device: torch.device) -> DecodePart:
    row_lengths = b.lengths[:count] = [length + 1 for length in b.lengths[:count]]
    columns = max(row_lengths)
    positions = torch.tensor(row_lengths).to(device) - 1
    lengths = (positions + 1)[:, None, None, None]
    mask = torch.zeros(count, 1, 1, columns, dtype=dtype, device=device)
    mask.masked_fill_(torch.arange(columns, device=device) >= lengths, float("-inf"))
    slots = torch.arange(count, device=device)
    return DecodePart(b, start, start + count, columns, row_lengths, slots, positions, lengths, mask)


def _blocks(entries: Sequence[Entry]) -> list[list[Entry]]:
    """`entries` by length, each block with little padding."""
    blocks: list[list[Entry]] = []
    for entry in sorted(entries, key=lambda entry: -len(entry.token_ids)):
        longest = len(blocks[-1][0].token_ids) if blocks else 0
        if blocks and len(entry.token_ids) >= (1 - PADDING_FRACTION) * longest:
            blocks[-1].append(entry)
        else:
            blocks.append([entry])
    return blocks
