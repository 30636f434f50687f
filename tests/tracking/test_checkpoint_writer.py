from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from rlkit.errors import CheckpointError, ClusterError, ModelError
from rlkit.tracking import checkpoint_writer
from rlkit.tracking.checkpoint_writer import CheckpointWriter, Written
from rlkit.tracking.checkpoints import CheckpointStore, verify_checkpoint


class State:
    """A number that training changes, and a disk that can be held up or be full."""

    def __init__(self) -> None:
        self.value = 0
        self.may_write = threading.Event()
        self.may_write.set()
        self.error: Exception | None = None

    def stage(self, folder: Path) -> Callable[[], None]:
        value = self.value

        def write() -> None:
            (folder / "half").write_text("half")
            assert self.may_write.wait(30)
            if self.error is not None:
                raise self.error
            (folder / "value").write_text(str(value))

        return write


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


@pytest.fixture
def writer(store, state) -> CheckpointWriter:
    return CheckpointWriter(store, state.stage)


class TestInTheBackground:
    def test_training_goes_on_and_the_checkpoint_holds_the_staged_state(self, writer, store, state):
        state.may_write.clear()
        state.value = 7
        assert writer.begin(1) is None
        state.value = 8
        assert writer.take_finished() is None
        assert store.steps() == []
        state.may_write.set()
        assert writer.wait() == Written(1, store.path(1))
        assert (store.path(1) / "value").read_text() == "7"
        verify_checkpoint(store.path(1), step=1)

    def test_a_checkpoint_is_told_of_once(self, writer):
        writer.begin(1)
        assert writer.wait() is not None
        assert writer.wait() is None
        assert writer.take_finished() is None

    def test_one_that_is_whole_is_found_without_waiting(self, writer, store):
        writer.begin(1)
        while (found := writer.take_finished()) is None:
            pass
        assert found.folder == store.path(1)

    def test_only_one_is_under_way(self, writer, state):
        state.may_write.clear()
        writer.begin(1)
        with pytest.raises(RuntimeError, match="step 1 is still pending"):
            writer.begin(2)
        state.may_write.set()
        writer.wait()
        writer.begin(2)
        assert writer.wait() is not None

    def test_until_the_new_one_is_whole_the_old_one_is_the_newest(self, writer, store, state):
        writer.begin(1)
        writer.wait()
        state.may_write.clear()
        writer.begin(2)
        assert store.newest_whole() == (1, store.path(1))
        state.may_write.set()
        writer.wait()
        assert store.newest_whole() == (2, store.path(2))

    def test_spared_ones_are_kept(self, store, state):
        writer = CheckpointWriter(CheckpointStore(store.folder, keep=1), state.stage)
        for step in (1, 2, 3):
            writer.begin(step, spare={1})
            writer.wait()
        assert store.steps() == [1, 3]


def test_waiting_for_a_disk_that_does_not_get_on_is_told(writer, store, state, monkeypatch, caplog):
    waits: list[float] = []

    def is_alive_after(thread: threading.Thread, seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 4:
            state.may_write.set()
            thread.join()
        return thread.is_alive()

    monkeypatch.setattr(checkpoint_writer, "_is_alive_after", is_alive_after)
    state.may_write.clear()
    writer.begin(3)
    with caplog.at_level("WARNING", logger="rlkit"):
        assert writer.wait() == Written(3, store.path(3))
    assert waits == [60.0, 120.0, 240.0, 480.0]
    assert (
        f"for the checkpoint of step 3; if nothing is written any more, the file system of {store.folder}"
        in caplog.text
    )
    assert len(caplog.records) == 3


def test_in_the_foreground_it_is_whole_at_once(store, state):
    assert CheckpointWriter(store, state.stage, in_background=False).begin(3) == Written(3, store.path(3))


def test_a_stage_that_writes_everything_itself_leaves_nothing_to_write(store):
    writer = CheckpointWriter(store, lambda folder: (folder / "all").touch())
    writer.begin(1)
    assert writer.wait() == Written(1, store.path(1))


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("in_background", [True, False])
class TestFailure:
    def test_it_is_one_line_and_no_success(self, store, state, in_background):
        writer = CheckpointWriter(store, state.stage, in_background=in_background)
        state.error = FULL
        with pytest.raises(CheckpointError) as caught:
            writer.begin(4)
            writer.wait()
        assert str(caught.value) == (
            "the checkpoint of step 4 was not written (OSError: [Errno 28] No space left on device)"
        )
        assert store.steps() == []

    def test_what_was_half_written_is_removed_to_give_its_room_back(self, store, state, in_background):
        writer = CheckpointWriter(store, state.stage, in_background=in_background)
        state.error = FULL
        with pytest.raises(CheckpointError):
            writer.begin(4)
            writer.wait()
        assert list(store.folder.iterdir()) == []

    def test_the_next_one_is_written(self, store, state, in_background):
        writer = CheckpointWriter(store, state.stage, in_background=in_background)
        state.error = FULL
        with pytest.raises(CheckpointError):
            writer.begin(4)
            writer.wait()
        state.error = None
        written = writer.begin(5) or writer.wait()
        assert written == Written(5, store.path(5))

    def test_a_worker_that_died_is_no_fault_of_the_checkpoint(self, store, state, in_background):
        writer = CheckpointWriter(store, state.stage, in_background=in_background)
        state.error = ClusterError("rank 1 died")
        with pytest.raises(ClusterError, match="rank 1 died"):
            writer.begin(4)
            writer.wait()

    def test_a_model_file_that_cannot_be_written_is_a_failed_checkpoint(self, store, state, in_background):
        writer = CheckpointWriter(store, state.stage, in_background=in_background)
        state.error = ModelError("'model.safetensors' cannot be written: No space left on device")
        with pytest.raises(CheckpointError, match=r"step 4 was not written \('model.safetensors' cannot be written"):
            writer.begin(4)
            writer.wait()

    @pytest.mark.parametrize(
        "error", [FULL, SafetensorError("No space left on device"), ModelError("the shard cannot be written")]
    )
    def test_a_disk_that_refuses_while_staging(self, store, in_background, error):
        def stage(folder: Path) -> None:
            (folder / "state").mkdir()
            raise error

        writer = CheckpointWriter(store, stage, in_background=in_background)
        with pytest.raises(CheckpointError, match="step 4 was not written"):
            writer.begin(4)
        assert list(store.folder.iterdir()) == []
        assert writer.wait() is None
