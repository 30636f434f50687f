"""One rank, in this process."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlkit.cluster.shipping import pack_files
from rlkit.cluster.weight_chunks import tensors_of
from rlkit.cluster.worker import TrainingWorker, import_shipped_files
from rlkit.errors import CheckpointError
from rlkit.plugin.references import file_module_name


class Pending:
    """A save that is done when it is told so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.error: Exception | None = None

    def wait(self) -> None:
        self.go_on.wait(60)
        if self.error is not None:
            raise self.error


class Model:
    def __init__(self) -> None:
        self.pending = Pending()
        self.saved: list[Path] = []

    def begin_save(self, folder: Path) -> Pending:
        self.saved.append(folder)
        return self.pending

    def export_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(5):
            yield f"w{number}", torch.full((100,), float(number))

    def look(self, worker: TrainingWorker) -> str:
        return worker.health()


def worker_with(model: Model, rank: int = 0) -> TrainingWorker:
    worker = TrainingWorker(rank, 2)
    worker._models["actor"] = model
    return worker


def settle(worker: TrainingWorker) -> str:
    """Why the save failed, if it did."""
    deadline = time.monotonic() + 60
    while not (state := worker.save_is_done("actor")).is_done:
        assert time.monotonic() < deadline, "the save does not end"
        time.sleep(0.02)
    return state.failure


def test_a_save_is_under_way_until_its_files_are_written(tmp_path: Path) -> None:
    model = Model()
    worker = worker_with(model)
    worker.begin_save("actor", str(tmp_path))
    assert not worker.save_is_done("actor").is_done
    model.pending.go_on.set()
    assert settle(worker) == ""
    assert model.saved == [tmp_path]


@pytest.mark.parametrize(
    ("error", "words"),
    [(CheckpointError("the disk is full"), "the disk is full"), (OSError("no room"), "OSError: no room")],
)
def test_what_writing_raised_is_told_and_the_rank_goes_on(tmp_path: Path, error: Exception, words: str) -> None:
    model = Model()
    worker = worker_with(model)
    model.pending.error = error
    model.pending.go_on.set()
    worker.begin_save("actor", str(tmp_path))
    assert settle(worker) == words


def test_a_rank_tells_which_files_it_has_written_and_where(tmp_path: Path) -> None:
    class Listing(Pending):
        def written(self) -> dict[str, int]:
            return {"weights/shard": 3}

    model = Model()
    model.pending = Listing()
    worker = worker_with(model)
    worker.begin_save("actor", str(tmp_path))
    state = worker.save_is_done("actor")
    assert not state.is_done and state.files == {"weights/shard": 3} and state.node == socket.gethostname()
    model.pending.go_on.set()
    assert settle(worker) == ""


def test_the_first_rank_gives_the_weights_and_the_others_read_along() -> None:
    first, second = worker_with(Model()), worker_with(Model(), rank=1)
    for worker in (first, second):
        worker.begin_export("actor", 900)
    names: list[str] = []
    while True:
        (more, chunk), (more_there, nothing) = first.next_chunk("actor"), second.next_chunk("actor")
        assert more == more_there and nothing is None
        if not more:
            break
        assert chunk is not None
        for name, tensor in tensors_of(chunk):
            assert tensor.tolist() == [float(name[1:])] * 100
            names.append(name)
    assert names == ["w0", "w1", "w2", "w3", "w4"]


def test_a_rank_says_what_it_is_doing_and_where() -> None:
    worker = worker_with(Model())
    assert worker.health() == "waiting for the driver"
    said = worker.call("actor", "look", (worker,), {})
    assert re.match(r"in actor\.look for \d+ s at .*\(describe\)", said), said
    assert worker.call("actor", "look", (worker,), {}, is_wanted=True) is not None
    assert worker.call("actor", "look", (worker,), {}, is_wanted=False) is None


def test_shipped_files_are_imported_under_the_name_that_the_driver_has_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "loss.py").write_text("def f():\n    return 3\n")
    name = f"{folder / 'loss.py'}:f"
    files = pack_files([name])
    on_driver = file_module_name(folder / "loss.py")
    (folder / "loss.py").unlink()  # another machine, which has no such folder
    import_shipped_files(files)
    try:
        assert sys.modules[on_driver].f() == 3
    finally:
        sys.modules.pop(on_driver)
