"""The first Ctrl-C asks, the second one insists."""

from __future__ import annotations

import os
import signal

import pytest

from rlkit.trainers.stop_signal import graceful_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_loop_to_stop(number, capsys):
    with graceful_stop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
    assert "its state will be saved" in capsys.readouterr().err


def test_what_is_finished_first_is_said(capsys):
    with graceful_stop("when the dishes are done"):
        os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err == "\nstopping when the dishes are done (again to stop at once)\n"


def test_the_second_signal_stops_at_once():
    with pytest.raises(KeyboardInterrupt), graceful_stop():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with graceful_stop():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_torchrun_s_echo_of_a_signal_is_not_a_second_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr("rlkit.trainers.stop_signal.ECHO_S", 3600.0)
    with graceful_stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        monkeypatch.setattr("rlkit.trainers.stop_signal.ECHO_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
