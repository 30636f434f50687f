"""Keys and values of rows of about one length, side by side: what one attention call of a decoding step reads.

    slot 0  p p p p a a a . .    p prompt, a answer, . free; a row starts at column 0 and grows to the bin's capacity
    slot 1  p p p a a a a a .    rows that leave are replaced by the last one, so that the used slots are always the first
    slot 2  . . . . . . . . .    free slots, where more of them would mean copying (see `SlotMemory`)

Keys and values are kept transposed, [slots, K, D, capacity]: the products with a few queries a row then run along memory.
"""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor

from rlkit_hf.slot_memory import SlotMemory

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
        self._memory: list[tuple[dict[int, Tensor], int, SlotMemory]] = []

    @property
    def allocated_tokens(self) -> int:
        return self.slots * self.capacity

    def shape_layer(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Allocate a layer, if it is not, for keys and values like these: both [..., K, D]."""
        if layer not in self.keys:
            for states, new in ((self.keys, key), (self.values, value)):
                memory = SlotMemory((*new.shape[-2:], self.capacity), new)
                states[layer] = memory.resize(self.slots, kept=0)
                self._memory.append((states, layer, memory))

    def resize(self, slots: int) -> None:
        """Have `slots` slots, at least as many as there are rows. Layer by layer: only one is held twice at a time."""
        self.slots = slots
        for states, layer, memory in self._memory:
            states.pop(layer)
            states[layer] = memory.resize(slots, kept=len(self.rows))

    def clear(self) -> None:
        self.rows, self.lengths, self.slots = [], [], 0
        self.keys, self.values, self._memory = {}, {}, []

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
