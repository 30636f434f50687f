"""Slices of tensors that several ranks wrote, put together by whoever needs them."""

from __future__ import annotations

import pytest
import torch

from rlkit.errors import CheckpointError
from rlkit.models.state_files import StateFile, TensorPart, shard_path, write_files
from rlkit.models.state_slices import Slice, read_slices, saved_shapes

WHOLE = torch.arange(24.0).view(4, 6)


def whole(tensor):
    return TensorPart(tensor, [0] * tensor.ndim, tensor.shape)


@pytest.fixture
def folder(tmp_path):
    """Two ranks' halves of a matrix, a vector that the first has whole, a number."""
    files = []
    for rank, part in enumerate(WHOLE.split(3, dim=1)):
        parts = {"m": TensorPart(part.contiguous(), [0, 3 * rank], WHOLE.shape)}
        if rank == 0:
            parts |= {"v": whole(torch.tensor([1.0, 2.0])), "n": whole(torch.tensor(7.0))}
        files.append(StateFile(shard_path(tmp_path, rank), parts))
    write_files(tmp_path, files, {"counters.json": {"steps": 3}})
    return tmp_path


def read(folder, **wanted):
    return dict(read_slices(folder, wanted, otherwise="another model"))


@pytest.mark.parametrize(
    ("offsets", "shape"), [((0, 0), (4, 6)), ((2, 0), (2, 6)), ((0, 3), (4, 3)), ((1, 2), (2, 3)), ((0, 1), (4, 1))]
)
def test_any_slice_is_put_together_from_what_there_is(folder, offsets, shape):
    found = read(folder, m=Slice(offsets, shape, (4, 6)))["m"]
    rows, columns = (slice(start, start + size) for start, size in zip(offsets, shape, strict=True))
    assert torch.equal(found, WHOLE[rows, columns])


def test_vectors_and_numbers_are_tensors_too(folder):
    found = read(folder, v=Slice((1,), (1,), (2,)), n=Slice((), (), ()))
    assert found["v"].tolist() == [2.0]
    assert float(found["n"]) == 7.0
    assert saved_shapes(folder) == {"m": (4, 6), "v": (2,), "n": ()}


@pytest.mark.parametrize(
    ("name", "place"), [("m", Slice((0, 0), (4, 4), (4, 4))), ("x", Slice((0,), (1,), (1,))), ("v", Slice((), (), ()))]
)
def test_another_shape_or_name_is_refused(folder, name, place):
    with pytest.raises(CheckpointError, match=f"another model \\('{name}'"):
        read(folder, **{name: place})


@pytest.mark.parametrize("missing", [0, 1])
def test_a_folder_that_lacks_a_rank_s_file_is_refused_and_named(folder, missing):
    """Also by a rank that needs nothing of what is missing: all of them end with the same error."""
    shard_path(folder, missing).unlink()
    there = "1" if missing == 0 else "0"
    said = (
        f"^'{folder}' is not whole: of tensor 'm' a part is missing .12 of 24 elements.; .* written by rank {there}\\."
    )
    with pytest.raises(CheckpointError, match=said):
        read(folder, m=Slice((0, 0), (4, 3), (4, 6)))
    with pytest.raises(CheckpointError, match=said):
        saved_shapes(folder)


def test_a_tensor_that_nobody_wrote_is_named_with_those_who_did(folder):
    with pytest.raises(CheckpointError, match=f"^another model .'x' is not in '{folder}', to which rank 0, 1 wrote.$"):
        read(folder, x=Slice((0,), (1,), (1,)))


def test_a_folder_that_is_not_there_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no folder '.*elsewhere'; run.output must be on a file system that"):
        saved_shapes(tmp_path / "elsewhere")


def test_a_damaged_file_is_named(folder):
    shard_path(folder, 1).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read(folder, m=Slice((0, 0), (4, 6), (4, 6)))
