from __future__ import annotations

import io
import sys

import pytest

from rlkit.cli.run_options import choose_output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def output_variable(monkeypatch):
    monkeypatch.setenv("RLKIT_OUTPUT", "auto")
    return monkeypatch


def test_json_is_asked_for_and_nothing_else_is_said(output_variable):
    import os

    output_variable.setattr(sys, "stderr", Terminal())
    choose_output(as_json=True)
    assert os.environ["RLKIT_OUTPUT"] == "json"
    assert sys.stderr.getvalue() == ""


def test_on_a_terminal_people_are_told_at_once_and_the_next_line_covers_it(output_variable):
    output_variable.setattr(sys, "stderr", Terminal())
    choose_output(as_json=False)
    text = sys.stderr.getvalue()
    assert text.endswith("\r")
    assert len(text.strip()) <= len("error: x.toml")


def test_a_log_is_not_told(output_variable):
    output_variable.setattr(sys, "stderr", io.StringIO())
    choose_output(as_json=False)
    assert sys.stderr.getvalue() == ""
