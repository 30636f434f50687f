"""What the hook makes of a tracker that misbehaves."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from rlkit_trackers.hooks import TrackerHook
from rlkit_trackers.options import TrackerOptions

from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo


class Recording:
    """A tracker that remembers, and does `misdeed` in the method `where`."""

    def __init__(self, where: str = "", misdeed=lambda: None, *, settle_s: float | None = 0.0) -> None:
        self.calls: list[str] = []
        self.settle_s = settle_s
        self._where, self._misdeed = where, misdeed

    def _note(self, method: str, text: str = "") -> None:
        self.calls.append(f"{method} {text}".strip())
        if method == self._where:
            self._misdeed()

    def start(self, run, run_id, *, resumed):
        self._note("start", "again" if resumed else "")

    def log_metrics(self, step, metrics):
        self._note("metrics", str(step))

    def log_answers(self, table):
        self._note("answers", f"{table.title} {table.step} {len(table.rows)}")

    def log_checkpoint(self, step, folder):
        self._note("checkpoint", str(step))

    def finish(self, status):
        self._note("finish", status)

    def release(self):
        self.calls.append("release")


def play(tracker: Recording, folder: Path, *, steps: int = 3, first: int = 0, **options) -> HookRelay:
    relay = HookRelay()
    relay.add("acme", TrackerHook("acme", lambda: tracker, TrackerOptions(**options)))
    run = RunInfo("ppo", "played", folder, {}, total_steps=steps, first_step=first)
    relay.run_started(run=run)
    for step in range(first + 1, steps + 1):
        relay.step_finished(run=run, step=step, metrics={"reward/mean": 0.5})
    relay.checkpoint_saved(run=run, step=steps, folder=folder)
    relay.run_finished(run=run, status="finished")
    return relay


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """rlkit's own words: what other tests left behind in this process may speak up at any time."""
    return [record.getMessage() for record in caplog.records if record.name == "rlkit"]


WHOLE_RUN = ["start", "metrics 1", "metrics 2", "metrics 3", "checkpoint 3", "finish finished", "release"]


def test_a_run_is_passed_on_in_order(tmp_path):
    tracker = Recording()
    assert not play(tracker, tmp_path).failures
    assert tracker.calls == WHOLE_RUN


def test_a_resumed_run_is_the_same_one_and_one_begun_anew_is_not(tmp_path):
    file = tmp_path / "trackers" / "acme.json"
    play(Recording(), tmp_path, steps=2)
    first = file.read_text()
    resumed = Recording()
    play(resumed, tmp_path, first=2)
    assert resumed.calls[:2] == ["start again", "metrics 3"] and file.read_text() == first
    play(Recording(), tmp_path)
    assert file.read_text() != first


@pytest.mark.parametrize("settle_s", [0.0, 30.0, None])
def test_steps_done_again_after_a_resume_are_sent_once_unless_they_take_the_place_of_the_first(tmp_path, settle_s):
    play(Recording(settle_s=settle_s), tmp_path, steps=3)  # the checkpoint is that of step 1
    resumed = Recording(settle_s=settle_s)
    play(resumed, tmp_path, first=1, steps=4)
    again = ["metrics 2", "metrics 3"] if settle_s is None else []
    assert resumed.calls[1:-3] == [*again, "metrics 4"]
    anew = Recording(settle_s=settle_s)
    play(anew, tmp_path, steps=1)
    assert "metrics 1" in anew.calls, "a run that begins anew has sent nothing yet"


def test_a_spoilt_note_of_what_was_sent_sends_everything(tmp_path):
    play(Recording(), tmp_path)
    (tmp_path / "trackers" / "acme.sent.json").write_text("[1")
    resumed = Recording()
    play(resumed, tmp_path, first=1, steps=3)
    assert resumed.calls[1:3] == ["metrics 2", "metrics 3"]


@pytest.mark.parametrize("where", ["start", "metrics", "checkpoint", "finish"])
@pytest.mark.parametrize("error", [RuntimeError("no\nnetwork"), SystemExit(1)], ids=["raises", "exits"])
def test_one_that_raises_is_one_warning_and_then_silence(tmp_path, caplog, where, error):
    def misdeed() -> None:
        raise error

    tracker = Recording(where, misdeed)
    relay = play(tracker, tmp_path, steps=50)
    assert not relay.failures
    assert tracker.calls.count("release") == 1 and tracker.calls[-1] == "release", "what it changed is put back"
    assert said(caplog) == [
        f"tracker 'acme' is switched off for this run: {type(error).__name__}: "
        + ("no network" if isinstance(error, RuntimeError) else "1")
    ]


def test_one_that_fails_for_a_moment_gets_everything(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rlkit_trackers.hooks.PAUSES_S", (0.0, 0.0))
    left = [OSError("503")]

    def misdeed() -> None:
        if left:
            raise left.pop()

    tracker = Recording("metrics", misdeed)
    play(tracker, tmp_path)
    assert list(dict.fromkeys(tracker.calls)) == WHOLE_RUN
    assert not said(caplog)


def test_one_that_hangs_is_left_behind_with_a_count_of_what_was_lost(tmp_path, caplog):
    held = threading.Event()
    play(Recording("start", held.wait), tmp_path, steps=50, queue=10, flush_s=0.05)
    held.set()
    first, last = said(caplog)
    assert "so slow that 10 events wait" in first and "run.hook_options.acme.queue" in first
    assert "0.05 s after the end" in last


def test_one_that_is_slow_gets_what_fits_and_the_rest_is_counted(tmp_path, caplog):
    started, held = threading.Event(), threading.Event()

    def misdeed() -> None:
        started.set()
        held.wait()

    tracker = Recording("start", misdeed)
    hook = TrackerHook("acme", lambda: tracker, TrackerOptions(queue=2, flush_s=30))
    run = RunInfo("ppo", "played", tmp_path, {}, total_steps=5, first_step=0)
    hook.run_started(run)
    started.wait()
    for step in range(1, 6):
        hook.step_finished(step, {})
    held.set()
    hook.run_finished("finished")
    assert tracker.calls == ["start", "metrics 1", "metrics 2", "finish finished", "release"]
    assert "was too slow for 3 events" in said(caplog)[-1]
