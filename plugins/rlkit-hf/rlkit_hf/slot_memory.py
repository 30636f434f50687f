"""Memory for slots that come and go: on the CPU their number changes without copying them.

    | slot 0 | slot 1 | slot 2 |  . . . . . .  |     reserved: address space only, which takes memory once it is written
       kept     kept    dropped: its pages go back to the system and read as zeros

The C library's allocator would keep the holes that bins of many sizes leave, a quarter of the cache in a long run.
"""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor


class SlotMemory:
    """Zeros [slots, *shape] of the type and on the device of `like`; none at first.

    Zeros because a masked NaN would still poison a sum: a slot that is used again holds finite numbers.
    """

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        self._shape = shape
        self._empty = like.new_empty(0)
        self._slot_bytes = math.prod(shape) * like.element_size()
        self._whole = like.new_zeros(0, *shape)
        self._map: mmap.mmap | None = None
        self._slots = 0

    def resize(self, slots: int, *, kept: int) -> Tensor:
        """All `slots` of them, the first `kept` as they were. Tensors from earlier calls are to be forgotten."""
        if slots > self._whole.shape[0]:
            self._move(slots, kept)
        elif self._map is None:
            self._whole = self._whole[:slots].clone()
        elif slots < self._slots:
            self._drop(self._map, slots)
        self._slots = slots
        return self._whole[:slots]

    def _move(self, slots: int, kept: int) -> None:
        old, self._whole = self._whole, self._empty
        if self._empty.device.type == "cpu" and self._slot_bytes:
            self._map = mmap.mmap(-1, 2 * slots * self._slot_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            new = torch.frombuffer(self._map, dtype=old.dtype).view(-1, *self._shape)
        else:
            new = old.new_zeros(slots, *self._shape)
        new[:kept] = old[:kept]
        self._whole = new

    def _drop(self, memory: mmap.mmap, slots: int) -> None:
        start = -(-slots * self._slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        end = min(-(-self._slots * self._slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE, len(memory))
        if end > start:
            memory.madvise(mmap.MADV_DONTNEED, start, end - start)
