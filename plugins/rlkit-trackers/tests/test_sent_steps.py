"""What a tracker has of a run that was killed."""

from __future__ import annotations

import pytest
from rlkit_trackers.sent_steps import SentSteps

from rlkit.plugin.hookspecs import RunInfo


@pytest.fixture
def sent(tmp_path):
    """Function: the notes of one part of a run whose clock is a list."""
    (tmp_path / "trackers").mkdir()
    run = RunInfo("ppo", "played", tmp_path, {}, total_steps=9, first_step=0)
    return lambda clock, resumed: SentSteps(run, "acme", resumed=resumed, settle_s=30, now=lambda: clock[0])


def test_what_was_sent_just_before_a_kill_is_sent_again_and_what_is_older_is_not(sent):
    clock = [0.0]
    killed = sent(clock, False)
    for step in range(1, 6):
        clock[0] = 10.0 * step
        killed.note("metrics", step)
    resumed = sent(clock, True)
    assert [resumed.has("metrics", step) for step in range(1, 6)] == [True, True, False, False, False]
    assert not resumed.has("validation", 1), "each kind has its own count"


def test_a_tracker_that_has_ended_well_has_everything(sent):
    ended = sent([0.0], False)
    ended.note("metrics", 1)
    ended.settle()
    assert sent([0.0], True).has("metrics", 1)
    assert not sent([0.0], False).has("metrics", 1), "a run that begins anew has sent nothing"


def test_a_folder_that_takes_no_notes_is_no_reason_to_stop(sent, tmp_path):
    notes = sent([0.0], False)
    (tmp_path / "trackers").rmdir()
    notes.note("metrics", 1)
    notes.settle()
    assert notes.has("metrics", 1)
    assert not (tmp_path / "trackers" / "acme.sent.json").exists()
