from __future__ import annotations

import mmap
import struct
from pathlib import Path

import pytest
import torch
from rlkit_hf.slot_memory import SlotMemory

PAGEMAP = Path("/proc/self/pagemap")
SHAPE = (2, 3, 700)  # 16,800 bytes a slot: no whole number of pages


def numbered(slots: torch.Tensor, start: int = 0) -> None:
    for slot in range(start, len(slots)):
        slots[slot] = slot + 1


def test_slots_that_are_kept_survive_growing_and_shrinking() -> None:
    memory = SlotMemory(SHAPE, torch.zeros(1))
    numbered(memory.resize(5, kept=0))
    for slots, kept in ((6, 5), (40, 5), (7, 5), (5, 5), (300, 5), (3, 3)):
        found = memory.resize(slots, kept=kept)
        assert found.shape == (slots, *SHAPE)
        assert [float(found[slot].min()) for slot in range(kept)] == [slot + 1 for slot in range(kept)]
        assert [float(found[slot].max()) for slot in range(kept)] == [slot + 1 for slot in range(kept)]
        numbered(found, kept)


def test_new_slots_are_zero() -> None:
    assert not SlotMemory(SHAPE, torch.zeros(1)).resize(9, kept=0).any()


def test_growing_within_what_is_reserved_does_not_move_the_slots() -> None:
    memory = SlotMemory(SHAPE, torch.zeros(1))
    before = memory.resize(8, kept=0).data_ptr()
    assert memory.resize(16, kept=8).data_ptr() == before


@pytest.mark.skipif(not PAGEMAP.exists(), reason="needs /proc")
def test_pages_of_dropped_slots_go_back_to_the_system() -> None:
    memory = SlotMemory(SHAPE, torch.zeros(1))
    slots = memory.resize(64, kept=0).fill_(1.0)
    start, end = slots.data_ptr(), slots.data_ptr() + slots.nbytes
    slot_bytes = 4 * 2 * 3 * 700
    assert held_bytes(start, end) >= 64 * slot_bytes
    assert memory.resize(4, kept=4).min() == 1
    assert 4 * slot_bytes <= held_bytes(start, end) <= 4 * slot_bytes + mmap.PAGESIZE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_type_is_that_of_the_example(dtype: torch.dtype) -> None:
    assert SlotMemory((2, 2), torch.zeros(1, dtype=dtype)).resize(3, kept=0).dtype == dtype


def held_bytes(start: int, end: int) -> int:
    """Of the pages from one address to another: what the whole process holds is an estimate, and changes beside it."""
    first, last = start // mmap.PAGESIZE, -(-end // mmap.PAGESIZE)
    with PAGEMAP.open("rb") as pages:
        pages.seek(8 * first)
        entries = struct.unpack(f"={last - first}Q", pages.read(8 * (last - first)))
    return sum(entry >> 62 != 0 for entry in entries) * mmap.PAGESIZE  # in memory, or in the swap
