"""Keys and values of rows of about one length, side by side: what one attention call of a decoding step reads.

    slot 0  p p p p a a a . .    p prompt, a answer, . free; a row starts at column 0 and grows to the bin's capacity
    slot 1  p p p a a a a a .    rows that leave are replaced by the last one, so that the used slots are always the first
    slot 2  . . . . . . . . .    free slots: room to grow without copying

Keys and values are kept transposed, [slots, K, D, capacity]: the products with a few queries a row then run along memory.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch
from torch import Tensor

CAPACITY_STEP = 16
"""Capacities are multiples of it, and the smallest is twice as large."""

CAPACITY_RATIO = 1.25
"""From one capacity to the next: a row wastes a tenth of its columns on average and moves some five times in its life."""


def next_capacity(capacity: int) -> int:
    """The capacity of the next larger bin."""
    wanted = max(capacity + CAPACITY_STEP, int(capacity * CAPACITY_RATIO))
    return -(-wanted // CAPACITY_STEP) * CAPACITY_STEP


class Bin:
    """`rows` and their `lengths` in tokens, by slot; keys and values by layer, allocated when their shapes are known."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[Hashable] = []
        self.lengths: list[int] = []
        self.slots = 0
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    @property
    def allocated_tokens(self) -> int:
        return self.slots * self.capacity

    def shape_layer(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Allocate a layer, if it is not, for keys and values like these: both [..., K, D]."""
        if layer not in self.keys:
            self.keys[layer] = _zeros((self.slots, *key.shape[-2:], self.capacity), key)
            self.values[layer] = _zeros((self.slots, *value.shape[-2:], self.capacity), value)

    def resize(self, slots: int) -> None:
        """Have `slots` slots, at least as many as there are rows. Layer by layer: only one is held twice at a time."""
        self.slots = slots
        kept = len(self.rows)
        for states in (self.keys, self.values):
            for layer, old in states.items():
                new = _zeros((slots, *old.shape[1:]), old)
                new[:kept] = old[:kept]
                states[layer] = new
                del old, new

    def clear(self) -> None:
        self.rows, self.lengths, self.slots = [], [], 0
        self.keys, self.values = {}, {}

    def add(self, row: Hashable, length: int) -> int:
        """Give `row` the next slot, which must be there; returns its number."""
        self.rows.append(row)
        self.lengths.append(length)
        return len(self.rows) - 1

    def remove(self, slot: int) -> Hashable | None:
        """Free a slot; returns the row that has its number now, if another took its place."""
        last = len(self.rows) - 1
        moved = None
        if slot != last:
            self.copy_row(last, self, slot)
            moved = self.rows[slot] = self.rows[last]
            self.lengths[slot] = self.lengths[last]
        self.rows.pop()
        self.lengths.pop()
        return moved

    def copy_row(self, slot: int, other: Bin, other_slot: int) -> None:
        """Copy a row's keys and values to a slot of another bin, or of this one."""
        length = self.lengths[slot]
        for layer, keys in self.keys.items():
            values = self.values[layer]
            other.shape_layer(layer, keys[0, :, :, 0], values[0, :, :, 0])
            other.keys[layer][other_slot, :, :, :length] = keys[slot, :, :, :length]
            other.values[layer][other_slot, :, :, :length] = values[slot, :, :, :length]


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zero, not empty: a masked NaN would still poison a sum.

    On the CPU the memory is mapped for this tensor alone, so that all of it goes back when a bin is resized: the C
    library's allocator keeps the holes that bins of many sizes leave, a quarter of the cache in a long run.
    """
    count = math.prod(shape)
    if like.device.type != "cpu" or count == 0:
        return like.new_zeros(shape)
    memory = mmap(-1, count * like.element_size(), flags=MAP_PRIVATE | MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)
