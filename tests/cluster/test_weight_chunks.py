"""Weights come out of shared memory as they went in."""

from __future__ import annotations

import pytest
import torch

from rlkit.cluster.weight_chunks import WeightChunk, tensors_of, weight_chunks


def round_trip(tensors: dict[str, torch.Tensor], max_bytes: int) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The tensors again, and the bytes of each chunk. Chunks are copied at once, as shared memory does."""
    chunks = [WeightChunk(c.places, c.data.copy()) for c in weight_chunks(tensors.items(), max_bytes)]
    for chunk in chunks:
        chunk.data.flags.writeable = False
    found = dict(pair for chunk in chunks for pair in tensors_of(chunk))
    return found, [chunk.data.nbytes for chunk in chunks]


@pytest.mark.parametrize("max_bytes", [1, 64, 200, 1000, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_names_shapes_and_bits_survive(max_bytes: int, dtype: torch.dtype) -> None:
    shapes = {"a": (3, 5), "scalar": (), "b": (7,), "empty": (0, 4), "large": (20, 20), "c": (2, 2, 2)}
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}
    found, sizes = round_trip(tensors, max_bytes)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)
    largest = max(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert max(sizes) <= max(max_bytes, largest)


def test_different_dtypes_share_a_chunk() -> None:
    tensors = {"half": torch.ones(3, dtype=torch.bfloat16), "double": torch.ones(3, dtype=torch.float64)}
    found, sizes = round_trip(tensors, 1000)
    assert len(sizes) == 1
    assert torch.equal(found["double"], tensors["double"])


def test_a_transposed_view_keeps_its_values() -> None:
    matrix = torch.arange(6.0).view(2, 3).T
    found, _ = round_trip({"m": matrix}, 100)
    assert torch.equal(found["m"], matrix)


def test_nothing_gives_no_chunks() -> None:
    assert list(weight_chunks([], 100)) == []


def test_one_tensor_at_a_time_is_asked_for() -> None:
    """The exporter gathers each tensor as it goes: more than the buffer must not be held."""
    asked = []

    def exported():
        for number in range(4):
            asked.append(number)
            yield f"t{number}", torch.ones(10)

    chunks = weight_chunks(exported(), 64)
    next(chunks)
    assert asked == [0, 1]
