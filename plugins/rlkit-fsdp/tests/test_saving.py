from __future__ import annotations

import threading
import warnings

import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.ranks import Ranks
from rlkit_fsdp.saving import State, begin_writing, read_tensors, write_state
from torch.distributed.checkpoint import HuggingFaceStorageReader

from rlkit.errors import CheckpointError
from rlkit.models import state_files
from rlkit.models.state_files import StateFile, TensorPart, shard_path

ALONE = Ranks(0, 1, "cpu")


@pytest.fixture
def state():
    return State(
        {"weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3.0)}}, {"counts.json": {"steps": 2}}
    )


def zeros():
    return {"a": torch.zeros(2, 3), "b": torch.tensor(0.0)}


def test_what_was_written_is_read(state, tmp_path):
    write_state(tmp_path, state, ALONE)
    found = zeros()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_tensors(tmp_path / "weights", found, otherwise="?")
    assert torch.equal(found["a"], torch.arange(6.0).view(2, 3)) and found["b"] == 3
    assert (tmp_path / "counts.json").read_text() == '{"steps": 2}'


def test_torch_s_own_reader_opens_it(state, tmp_path):
    write_state(tmp_path, state, ALONE)
    entries = HuggingFaceStorageReader(str(tmp_path / "weights")).read_metadata().state_dict_metadata
    assert {name: tuple(entry.size) for name, entry in entries.items()} == {"a": (2, 3), "b": ()}


def test_a_pending_save_is_of_the_moment_it_began(state, tmp_path, monkeypatch):
    go_on = threading.Event()
    write = state_files.write_files

    def write_later(*arguments, **options):
        go_on.wait(30)
        write(*arguments, **options)

    monkeypatch.setattr(state_files, "write_files", write_later)
    pending = begin_writing(tmp_path, state, ALONE)
    state.tensors["weights"]["a"].fill_(-1)
    go_on.set()
    pending.wait()
    found = zeros()
    read_tensors(tmp_path / "weights", found, otherwise="?")
    assert torch.equal(found["a"], torch.arange(6.0).view(2, 3))


def test_an_error_of_writing_comes_out_when_waited_for(state, tmp_path):
    (tmp_path / "weights").write_text("a file where the folder should be")
    pending = begin_writing(tmp_path, state, ALONE)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="could not be written"):
            pending.wait()


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"a": torch.zeros(2, 3)}, r"another model \('b' in .* is no tensor of it\)"),
        ({**zeros(), "c": torch.zeros(1)}, r"another model \('c' is not in .*, to which rank 0 wrote\)"),
        ({**zeros(), "a": torch.zeros(3, 2)}, r"'a' in .* has shape \(2, 3\), here \(3, 2\)"),
    ],
)
def test_other_tensors_are_refused(state, tmp_path, targets, said):
    write_state(tmp_path, state, ALONE)
    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path / "weights", targets, otherwise="it is another model")


def test_damaged_files_are_refused(state, tmp_path):
    write_state(tmp_path, state, ALONE)
    (file,) = (tmp_path / "weights").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path / "weights", zeros(), otherwise="?")


@pytest.mark.parametrize("missing", [0, 1])
def test_rows_of_a_rank_whose_file_is_missing_are_not_left_as_they_were(tmp_path, missing):
    rows = torch.arange(8.0).view(4, 2)
    for rank, part in enumerate(rows.split(2)):
        StateFile(shard_path(tmp_path, rank), {"w": TensorPart(part.clone(), [2 * rank, 0], rows.shape)}).write()
    shard_path(tmp_path, missing).unlink()
    target = torch.full((4, 2), -7.0)
    with pytest.raises(CheckpointError, match=f"is not whole: of tensor 'w' a part .* written by rank {1 - missing}"):
        read_tensors(tmp_path, {"w": target}, otherwise="?")
    assert target.eq(-7.0).all()


def test_a_folder_that_is_not_there_says_where_the_run_s_output_belongs(role, tmp_path):
    actor = FSDPBackend().build_actor(role())
    for read in (lambda folder: read_tensors(folder, zeros(), otherwise="?"), actor.load):
        with pytest.raises(
            CheckpointError, match=r"has no folder .*nowhere'; run.output must be on a file system that"
        ):
            read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=f"has no folder '{tmp_path}/weights'"):
        actor.load(tmp_path)


def test_only_the_first_rank_writes_what_is_not_sharded(state, tmp_path):
    write_state(tmp_path, state, Ranks(1, 2, "cpu"))
    assert list(tmp_path.rglob("*")) == []


def test_tied_parameters_are_written_once(role, tmp_path):
    actor = FSDPBackend().build_actor(role())
    assert actor.module.config.tie_word_embeddings
    assert "lm_head.weight" not in actor.state().tensors["weights"]
