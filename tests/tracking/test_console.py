from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from rlkit.tracking.console import OUTPUT_VARIABLE, ConsoleHook, choose_view
from rlkit.tracking.json_progress import JsonProgress
from rlkit.tracking.live_progress import LiveProgress
from rlkit.tracking.plain_progress import PlainProgress
from rlkit.tracking.run_folder import LOGGER, NOTICE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a fixture: pytest puts its own stderr in place between setting up and running a test."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")


class TestChoice:
    @pytest.mark.parametrize(
        ("chosen", "view"),
        [("auto", LiveProgress), ("plain", PlainProgress), ("json", JsonProgress), ("", LiveProgress)],
    )
    def test_on_a_terminal(self, monkeypatch, chosen, view):
        use_terminal(monkeypatch)
        monkeypatch.setenv(OUTPUT_VARIABLE, chosen)
        assert type(choose_view()) is view

    @pytest.mark.parametrize(
        ("chosen", "view"), [("auto", PlainProgress), ("plain", PlainProgress), ("json", JsonProgress)]
    )
    def test_elsewhere(self, monkeypatch, chosen, view):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setenv(OUTPUT_VARIABLE, chosen)
        assert type(choose_view()) is view

    def test_a_terminal_that_cannot_redraw_gets_plain_lines(self, monkeypatch):
        use_terminal(monkeypatch)
        monkeypatch.delenv(OUTPUT_VARIABLE, raising=False)
        monkeypatch.setenv("TERM", "dumb")
        assert type(choose_view()) is PlainProgress

    def test_an_unknown_choice_is_named_and_taken_as_auto(self, monkeypatch, capsys):
        monkeypatch.setenv(OUTPUT_VARIABLE, "fancy")
        assert type(choose_view()) is PlainProgress
        assert capsys.readouterr().err == "warning: RLKIT_OUTPUT is 'fancy', not auto, plain, json; taken as auto\n"


class TestMessages:
    def test_warnings_and_notices_of_a_run_are_shown_while_it_runs_and_only_then(
        self, monkeypatch, make_run, capsys, caplog
    ):
        caplog.set_level(logging.INFO, logger="rlkit")  # as the run's log does
        monkeypatch.setenv(OUTPUT_VARIABLE, "json")
        run = make_run()
        hook = ConsoleHook()
        hook.run_started(run)
        LOGGER.warning("%d of %d", 1, 2)
        LOGGER.log(NOTICE, "nothing is wrong")
        LOGGER.info("for the log only")
        hook.run_finished(run, "finished")
        handlers = list(LOGGER.handlers)
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        shown = [(event["event"], event["message"]) for event in events if "message" in event]
        assert shown == [("warning", "1 of 2"), ("notice", "nothing is wrong")]
        assert not [handler for handler in handlers if type(handler).__name__ == "_ShownMessages"]


def test_every_event_reaches_the_view(monkeypatch, make_run, capsys):
    monkeypatch.setenv(OUTPUT_VARIABLE, "json")
    run = make_run()
    hook = ConsoleHook()
    hook.run_started(run)
    hook.step_finished(run, 1, {"reward/mean": 0.5})
    hook.validation_finished(run, 1, {"validation/score": 0.5})
    hook.checkpoint_saved(run, 1, run.folder)
    hook.run_finished(run, "finished")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["run_started", "step", "validation", "checkpoint", "run_finished"]
