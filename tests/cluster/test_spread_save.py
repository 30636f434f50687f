"""When a checkpoint that several ranks write counts as written; the ranks are objects of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlkit.cluster import spread_save
from rlkit.cluster.spread_save import SpreadSave
from rlkit.cluster.worker import TrainingWorker
from rlkit.cluster.worker_group import WorkerLostError
from rlkit.errors import CheckpointError
from rlkit.models.state_files import BackgroundSave


class Writing:
    """A pending save that does as it is told; `files` are those that it says it has written."""

    def __init__(self, write: Callable[[], object] = lambda: None) -> None:
        self.write = write
        self.files: dict[str, int] = {}

    def wait(self) -> None:
        self.write()

    def written(self) -> Mapping[str, int]:
        return dict(self.files)


class Group:
    """Implements what of `WorkerGroup` a save needs."""

    def __init__(self, pending: Sequence[Any], *, call_timeout_s: float = 0.0) -> None:
        self.size, self.call_timeout_s = len(pending), call_timeout_s
        self.workers = [TrainingWorker(rank, self.size) for rank in range(self.size)]
        for worker, own in zip(self.workers, pending, strict=True):
            worker._models["actor"] = type("Model", (), {"begin_save": lambda self, folder, own=own: own})()
        self.call("begin_save", "actor", "")

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(worker, method)(*arguments) for worker in self.workers]

    def lose(self, rank: int, cause: str) -> Exception:
        return WorkerLostError(f"rank {rank} {cause}")


def save_of(folder: Path, *pending: Any, call_timeout_s: float = 0.0) -> SpreadSave:
    group: Any = Group(pending, call_timeout_s=call_timeout_s)
    return SpreadSave(group, "actor", folder)


def test_it_is_done_when_all_ranks_are(tmp_path: Path) -> None:
    save = save_of(tmp_path, *(Writing((tmp_path / str(rank)).touch) for rank in range(3)))
    save.wait()
    save.wait()
    assert len(list(tmp_path.iterdir())) == 3


def test_one_that_fails_on_one_rank_is_told_once_no_rank_writes_any_more(tmp_path: Path) -> None:
    is_free = threading.Event()

    def fail() -> None:
        raise CheckpointError("the disk is full")

    def write_slowly() -> None:
        is_free.wait(30)
        (tmp_path / "late").touch()

    save = save_of(tmp_path, Writing(fail), Writing(write_slowly))
    threading.Timer(0.2, is_free.set).start()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"^rank 0: the disk is full$"):
            save.wait()
        assert (tmp_path / "late").exists()


def background_save(folder: Path) -> BackgroundSave:
    """One that writes what fsdp and megatron do, without tensors."""
    return BackgroundSave(folder, [], {"optimizer/counters.json": {"steps": 3}})


def test_files_that_are_here_are_seen(tmp_path: Path) -> None:
    save = save_of(tmp_path, background_save(tmp_path), Writing())
    save.wait()
    (tmp_path / "optimizer/counters.json").unlink()  # moved into place since
    save.wait()


def test_files_on_a_disk_of_another_machine_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_save, "SEEN_WITHIN_S", 0.2)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    save = save_of(here, background_save(here), Writing())
    save.wait()
    save = save_of(here, Writing(), background_save(elsewhere))
    (here / "optimizer/counters.json").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            save.wait()
        assert str(caught.value).startswith("rank 1 on ")
        assert str(caught.value).endswith(
            f" wrote {here / 'optimizer/counters.json'}, which is not seen here: run.output must be on a file system that "
            "every worker shares"
        )


def test_files_that_are_cut_here_are_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_save, "SEEN_WITHIN_S", 0.2)
    (tmp_path / "a").write_text("123")
    writing = Writing()
    writing.files["a"] = 5
    with pytest.raises(CheckpointError, match=r"rank 0 on .* wrote .*a, 5 bytes, of which 3 are seen here"):
        save_of(tmp_path, writing).wait()


def test_a_file_that_is_seen_a_moment_later_is_waited_for(tmp_path: Path) -> None:
    writing = Writing()
    writing.files["a"] = 0
    threading.Timer(0.3, (tmp_path / "a").touch).start()
    save_of(tmp_path, writing).wait()
    assert (tmp_path / "a").exists()


def test_a_rank_that_finishes_no_file_is_lost(tmp_path: Path) -> None:
    is_over = threading.Event()
    stuck = Writing(lambda: is_over.wait(60))
    save = save_of(tmp_path, Writing(), stuck, call_timeout_s=0.5)
    with pytest.raises(WorkerLostError, match=r"rank 1 has finished no file .*\(actor\) for 0\.5 s .*call_timeout_s"):
        save.wait()
    is_over.set()


@pytest.mark.slow
def test_a_rank_that_finishes_one_file_after_the_other_may_take_long(tmp_path: Path) -> None:
    slow, pause = Writing(), threading.Event()

    def write() -> None:
        for number in range(12):
            pause.wait(0.25)
            (tmp_path / str(number)).touch()
            slow.files[str(number)] = 0

    slow.write = write
    save_of(tmp_path, slow, call_timeout_s=2.0).wait()
    assert len(slow.files) == 12


def test_what_is_written_is_listed_with_its_bytes(tmp_path: Path) -> None:
    save = background_save(tmp_path)
    save.wait()
    ((name, size),) = save.written().items()
    assert (tmp_path / name).stat().st_size == size > 0
