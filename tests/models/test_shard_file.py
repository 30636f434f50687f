"""A safetensors file that is written tensor by tensor."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlkit.errors import ModelError
from rlkit.models import shard_file
from rlkit.models.safetensors_io import SINGLE_FILE, read_header, read_headers, stream_tensors, write_sharded
from rlkit.models.shard_file import HEADER_ROOM_BYTES, ShardFile

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool", "float8_e4m3fn", "complex64")


@pytest.fixture
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_file, "HELD_BYTES", 0)


def test_a_small_file_has_the_header_it_needs_and_a_larger_one_room(tmp_path: Path, monkeypatch) -> None:
    for held, room in ((1000, 0), (100, HEADER_ROOM_BYTES)):
        monkeypatch.setattr(shard_file, "HELD_BYTES", held)
        file = ShardFile(tmp_path / "file")
        values = {"a": torch.arange(20.0), "b": torch.arange(21.0)}
        for name, tensor in values.items():
            file.add(name, tensor)
        file.finish()
        assert file.path.stat().st_size == pytest.approx(room + 164, abs=200)
        found = load_file(file.path)
        assert found.keys() == values.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in values.items())
        assert read_header(file.path)["b"].num_bytes == 84


@pytest.mark.usefixtures("nothing_waits")
def test_no_tensor_outlives_the_next_one(tmp_path: Path) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def produce():  # type: ignore[no-untyped-def]
        for number in range(5):
            assert sum(reference() is not None for reference in alive) <= 1
            tensor = torch.full((100,), float(number))
            alive.append(weakref.ref(tensor))
            yield str(number), tensor

    write_sharded(produce(), tmp_path)
    assert [float(tensor[0]) for _, tensor in sorted(stream_tensors(tmp_path))] == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("nothing_waits")
def test_every_type_and_shape_comes_back_aligned(tmp_path: Path) -> None:
    values = {dtype: torch.arange(3).to(getattr(torch, dtype)) for dtype in DTYPES}
    values |= {"number": torch.tensor(7.0), "nothing": torch.zeros(0, 4), "transposed": torch.arange(6.0).view(2, 3).T}
    write_sharded(values.items(), tmp_path)
    found = dict(stream_tensors(tmp_path))
    assert found.keys() == values.keys()
    for name, tensor in values.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8))
    assert len({info.file for info in read_headers(tmp_path).values()}) > 1


def test_types_that_came_while_the_file_was_small_need_no_second_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shard_file, "HELD_BYTES", 100)
    values = {"small": torch.ones(3, dtype=torch.bfloat16), "large": torch.arange(50.0)}
    write_sharded(values.items(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE_FILE]
    assert torch.equal(load_file(tmp_path / SINGLE_FILE)["large"], values["large"])


@pytest.mark.usefixtures("nothing_waits")
def test_more_names_than_the_header_has_room_for_begin_another_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shard_file, "HEADER_ROOM_BYTES", 1016)
    write_sharded(((f"{number:02d}" * 40, torch.zeros(2, 2)) for number in range(9)), tmp_path)
    files = {info.file for info in read_headers(tmp_path).values()}
    assert 1 < len(files) < 9
    assert all((tmp_path / file).stat().st_size < 2000 for file in files)


@pytest.mark.usefixtures("nothing_waits")
def test_a_disk_that_refuses_is_an_error_in_our_words() -> None:
    with pytest.raises(ModelError, match=r"weights could not be written to '/dev': .*No space left"):
        write = ShardFile(Path("/dev/full"))
        write.add("a", torch.zeros(10_000))
        write.finish()
