from __future__ import annotations

import itertools
from multiprocessing.shared_memory import SharedMemory

import pytest
import torch
from rlkit_vllm.segments import read_segment, written_segments


def tensors() -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (7,), (), (0, 4), (64, 33), (2, 2, 2)]
    dtypes = itertools.cycle([torch.float32, torch.bfloat16, torch.int64])
    made = [
        (torch.randn(shape, generator=generator) * 9).to(dtype) for shape, dtype in zip(shapes, dtypes, strict=False)
    ]
    return [(f"tensor {number}", tensor) for number, tensor in enumerate(made)]


@pytest.mark.parametrize("segment_bytes", [1, 200, 4096, 2**20])
def test_what_is_read_is_what_was_written(segment_bytes: int) -> None:
    read = []
    for segment, places in written_segments(tensors(), segment_bytes=segment_bytes):
        read += read_segment(segment, places)
    assert [name for name, _ in read] == [name for name, _ in tensors()]
    for (_, expected), (_, found) in zip(tensors(), read, strict=True):
        assert expected.dtype == found.dtype
        assert torch.equal(expected, found)


def test_a_tensor_that_is_not_contiguous_arrives_as_it_looks() -> None:
    turned = torch.arange(12.0).view(3, 4).T
    (segment, places) = next(iter(written_segments([("turned", turned)])))
    with pytest.raises(FileNotFoundError):  # the iteration has ended, and the segment with it
        read_segment(segment, places)
    for segment, places in written_segments([("turned", turned)]):
        assert torch.equal(read_segment(segment, places)[0][1], turned)


def test_memory_is_bounded_and_given_back() -> None:
    thousand = [(f"{number}", torch.zeros(100)) for number in range(1000)]
    names = []
    for segment, places in written_segments(thousand, segment_bytes=4096):
        names.append(segment)
        assert len(places) <= 10
        for gone in names[:-1]:
            with pytest.raises(FileNotFoundError):
                SharedMemory(gone)
    assert len(names) >= 100
    with pytest.raises(FileNotFoundError):
        SharedMemory(names[-1])


def test_an_interrupted_reader_leaves_nothing_behind() -> None:
    seen = ""
    with pytest.raises(RuntimeError, match="the worker died"):
        for segment, _ in written_segments(tensors()):
            seen = segment
            raise RuntimeError("the worker died")
    with pytest.raises(FileNotFoundError):
        SharedMemory(seen)


def test_nothing_is_written_for_nothing() -> None:
    assert list(written_segments([])) == []
