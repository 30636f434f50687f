from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rlkit.errors import ModelError
from rlkit.models.safetensors_io import (
    INDEX_FILE,
    SINGLE_FILE,
    read_headers,
    stream_tensors,
    weight_files,
    write_sharded,
)


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.full((4, 8), float(number)) for number, name in enumerate("abcde")}  # 128 bytes each


def test_small_sets_become_one_file_without_an_index(tmp_path: Path) -> None:
    write_sharded(tensors().items(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE_FILE]


def test_shards_stay_below_the_limit_and_come_back_whole(tmp_path: Path) -> None:
    write_sharded(tensors().items(), tmp_path, max_shard_bytes=256)
    files = weight_files(tmp_path)
    assert [file.name for file in files] == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == 5 * 128
    assert index["weight_map"]["c"] == files[1].name
    back = dict(stream_tensors(tmp_path))
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors().items())


def test_a_tensor_above_the_limit_gets_a_file_of_its_own(tmp_path: Path) -> None:
    write_sharded([("big", torch.zeros(100)), ("small", torch.zeros(1))], tmp_path, max_shard_bytes=16)
    assert len(weight_files(tmp_path)) == 2


def test_rewriting_with_fewer_shards_removes_the_old_ones(tmp_path: Path) -> None:
    write_sharded(tensors().items(), tmp_path, max_shard_bytes=128)
    write_sharded(tensors().items(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE_FILE]
    assert set(read_headers(tmp_path)) == set("abcde")


def test_one_shard_at_a_time_is_held_while_writing(tmp_path: Path) -> None:
    held: list[int] = []

    def produce():  # type: ignore[no-untyped-def]
        for number in range(4):
            held.append(len(list(tmp_path.glob(".shard-*"))))
            yield f"t{number}", torch.zeros(32)

    write_sharded(produce(), tmp_path, max_shard_bytes=128)
    assert held == [0, 0, 1, 2]


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'a' was given twice"):
        write_sharded([("a", torch.zeros(1)), ("a", torch.zeros(1))], tmp_path)


def test_headers_match_the_tensors(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3, 5, dtype=torch.bfloat16)}, tmp_path / SINGLE_FILE)
    info = read_headers(tmp_path)["x"]
    assert (info.dtype, info.shape, info.num_bytes, info.num_elements) == ("BF16", (3, 5), 30, 15)


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    write_sharded(tensors().items(), tmp_path)
    file = tmp_path / SINGLE_FILE
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors' is cut off"):
        read_headers(tmp_path)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        list(stream_tensors(tmp_path))


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / SINGLE_FILE).write_bytes(b"PK\x03\x04 not safetensors at all")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        read_headers(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tensors().items(), tmp_path, max_shard_bytes=256)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00003\.safetensors, which is missing"):
        weight_files(tmp_path)


def test_an_index_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(ModelError, match="outside the model folder"):
        weight_files(tmp_path)


def test_a_folder_without_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no weights: expected model\.safetensors"):
        weight_files(tmp_path)
