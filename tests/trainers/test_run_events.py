"""What becomes of checkpoints that are written while training goes on, and of those that cannot be written."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.errors import CheckpointError
from rlkit.plugin import hookimpl
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.trainers.run_events import RunEvents

FULL = OSError(errno.ENOSPC, "No space left on device")


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    @hookimpl
    def step_finished(self, step):
        self.events.append(("step", step))

    @hookimpl
    def checkpoint_saved(self, step, folder):
        assert (folder / "manifest.json").is_file()
        self.events.append(("checkpoint", step))


class Disk:
    """May be slow, or full at some steps."""

    def __init__(self, full_at: tuple[str, ...] = ()) -> None:
        self.full_at = full_at
        self.is_free = threading.Event()
        self.is_free.set()

    def stage(self, folder: Path) -> Callable[[], None]:
        def write() -> None:
            assert self.is_free.wait(30)
            if any(step in folder.name for step in self.full_at):
                raise FULL
            (folder / "state").touch()

        return write


@pytest.fixture
def build(tmp_path: Path):
    """Function: the events of a run, what its hooks heard, and its disk."""

    def made(full_at: tuple[str, ...] = (), *, stop: bool = True) -> tuple[RunEvents, Recorder, Disk]:
        recorder, relay, disk = Recorder(), HookRelay(), Disk(full_at)
        relay.add("recorder", recorder)
        writer = CheckpointWriter(CheckpointStore(tmp_path / "checkpoints", keep=9), disk.stage)
        run = RunInfo("sft", "test", tmp_path, {}, 9, 0)
        return RunEvents(run, relay, writer, stop_on_checkpoint_error=stop), recorder, disk

    return made


class TestInTheBackground:
    def test_hooks_hear_of_a_checkpoint_once_it_is_whole(self, build):
        events, recorder, disk = build()
        disk.is_free.clear()
        events.save_checkpoint(1)
        events.step_finished(2, {})
        assert recorder.events == [("step", 2)]
        disk.is_free.set()
        while recorder.events[-1][0] != "checkpoint":
            events.step_finished(3, {})
        assert recorder.events[-2:] == [("step", 3), ("checkpoint", 1)]

    def test_the_next_one_waits_for_the_one_before(self, build):
        events, recorder, _ = build()
        events.save_checkpoint(1)
        events.save_checkpoint(2)
        assert recorder.events == [("checkpoint", 1)]

    def test_a_step_is_saved_once(self, build):
        events, recorder, _ = build()
        with events.settling_checkpoints():
            events.save_checkpoint(1)
            events.save_checkpoint(1)
        assert recorder.events == [("checkpoint", 1)]

    def test_the_one_that_a_run_goes_on_from_is_told_of_and_not_written_again(self, build):
        events, _, _ = build()
        with events.settling_checkpoints():
            events.save_checkpoint(4)
        again, recorder, _ = build(full_at=("4",))
        store = again.checkpoints.store
        again.resumed_from(4, store.path(4))
        with again.settling_checkpoints():
            again.save_checkpoint(4)
            again.save_checkpoint(5)
        assert recorder.events == [("checkpoint", 4), ("checkpoint", 5)]

    def test_a_step_that_was_validated_since_is_saved_again(self, build):
        events, recorder, _ = build()
        with events.settling_checkpoints():
            events.save_checkpoint(4)
        events.resumed_from(4, events.checkpoints.store.path(4))
        events.validation_finished(4, {})
        with events.settling_checkpoints():
            events.save_checkpoint(4)
        assert recorder.events == [("checkpoint", 4)] * 3

    def test_at_the_end_it_is_waited_for(self, build):
        events, recorder, disk = build()
        disk.is_free.clear()
        threading.Timer(0.05, disk.is_free.set).start()
        with events.settling_checkpoints():
            events.save_checkpoint(1)
        assert recorder.events == [("checkpoint", 1)]
        events.check_saved()

    def test_a_run_that_fails_waits_for_it_too(self, build):
        events, recorder, disk = build()
        disk.is_free.clear()
        threading.Timer(0.05, disk.is_free.set).start()
        with pytest.raises(ZeroDivisionError), events.settling_checkpoints():
            events.save_checkpoint(1)
            raise ZeroDivisionError
        assert recorder.events == [("checkpoint", 1)]

    def test_a_second_control_c_waits_for_nothing(self, build):
        events, recorder, disk = build()
        disk.is_free.clear()
        with pytest.raises(KeyboardInterrupt), events.settling_checkpoints():
            events.save_checkpoint(1)
            raise KeyboardInterrupt
        assert recorder.events == []
        disk.is_free.set()


class TestAFullDisk:
    def test_it_ends_the_run_at_the_next_step_that_looks(self, build):
        events, _, _ = build(full_at=("1",))
        with pytest.raises(CheckpointError, match=r"step 1 was not written .*No space left"):
            events.save_checkpoint(1)
            while True:
                events.step_finished(2, {})

    def test_it_ends_the_run_at_its_end(self, build):
        events, _, _ = build(full_at=("1",))
        with pytest.raises(CheckpointError, match="step 1 was not written"), events.settling_checkpoints():
            events.save_checkpoint(1)

    def test_or_the_run_goes_on_with_a_warning_and_tries_again(self, build, caplog):
        events, recorder, _ = build(full_at=("1",), stop=False)
        with events.settling_checkpoints():
            events.save_checkpoint(1)
            events.save_checkpoint(2)
        assert recorder.events == [("checkpoint", 2)]
        (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
        assert warning.startswith("the checkpoint of step 1 was not written") and warning.endswith(
            "; going on without it"
        )
        events.check_saved()

    def test_a_run_whose_last_checkpoint_failed_has_not_succeeded(self, build):
        events, recorder, _ = build(full_at=("2",), stop=False)
        with events.settling_checkpoints():
            events.save_checkpoint(1)
            events.save_checkpoint(2)
        assert recorder.events == [("checkpoint", 1)]
        with pytest.raises(CheckpointError, match="step 2 was not written"):
            events.check_saved()

    def test_what_ended_the_training_is_not_hidden_by_it(self, build, caplog):
        events, _, _ = build(full_at=("1",))
        with pytest.raises(ZeroDivisionError), events.settling_checkpoints():
            events.save_checkpoint(1)
            raise ZeroDivisionError
        assert "step 1 was not written" in caplog.text
