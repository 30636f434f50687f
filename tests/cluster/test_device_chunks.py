"""Which way weights go to replicas, and that they are the same on either."""

from __future__ import annotations

import pickle

import pytest
import torch

from rlkit.cluster.device_chunks import ROOM, DeviceChunk, device_chunk, replica_chunks
from rlkit.cluster.weight_chunks import WeightChunk, tensors_of

TENSORS = [
    ("a", torch.arange(6.0).view(2, 3).T),
    ("scalar", torch.tensor(2.5)),
    ("half", torch.arange(70.0).bfloat16()),
    ("empty", torch.zeros(0, 4)),
    ("large", torch.arange(400.0)),
]


def share(chunk: WeightChunk) -> WeightChunk:
    return WeightChunk(chunk.places, chunk.data.copy())


def chunks(*, device: str | None, free: int = 10**9, max_bytes: int = 1000) -> list[WeightChunk | DeviceChunk]:
    return list(replica_chunks(TENSORS, max_bytes, share, device=device, free_bytes=lambda device: free))


@pytest.fixture(autouse=True)
def plain_allocator(monkeypatch):
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)


@pytest.mark.parametrize("device", [None, "cpu", "cuda:0"])
@pytest.mark.parametrize("max_bytes", [1, 100, 10**6])
def test_names_shapes_and_bits_survive_every_way(device, max_bytes):
    """The tensors are on the CPU, which stands for the GPU of the replicas, or for another place than theirs."""
    made = chunks(device=device, max_bytes=max_bytes)
    assert {type(chunk) for chunk in made} == {DeviceChunk if device == "cpu" else WeightChunk}
    found = [pair for chunk in made for pair in tensors_of(chunk)]
    assert [name for name, _ in found] == [name for name, _ in TENSORS]
    for (_, tensor), (_, expected) in zip(found, TENSORS, strict=True):
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)


def test_a_full_gpu_gets_no_second_copy():
    assert all(isinstance(chunk, WeightChunk) for chunk in chunks(device="cpu", free=0))
    sizes = [len(chunk.data) for chunk in chunks(device="cpu")]
    assert max(sizes) == 1600
    made = chunks(device="cpu", free=ROOM * max(sizes) - 1)
    assert [type(chunk) for chunk in made] == [DeviceChunk] * (len(sizes) - 1) + [WeightChunk]


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_memory_that_has_no_handles_goes_the_other_way(monkeypatch, name):
    monkeypatch.setenv(name, "max_split_size_mb:64, expandable_segments: True")
    assert all(isinstance(chunk, WeightChunk) for chunk in chunks(device="cpu"))
    monkeypatch.setenv(name, "expandable_segments:False")
    assert all(isinstance(chunk, DeviceChunk) for chunk in chunks(device="cpu"))


def _read(content: bytes, answers) -> None:
    answers.put({name: tensor.cpu().clone() for name, tensor in tensors_of(pickle.loads(content))})


@pytest.mark.gpu
def test_another_process_reads_the_tensors_where_they_are():
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    on_gpu = [(name, tensor.cuda()) for name, tensor in TENSORS]
    chunk = device_chunk(on_gpu, 4096)
    process = context.Process(target=_read, args=(pickle.dumps(chunk), answers))
    process.start()
    try:
        found = answers.get(timeout=60)
    finally:
        process.join(timeout=60)
    assert found.keys() == dict(TENSORS).keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS)
