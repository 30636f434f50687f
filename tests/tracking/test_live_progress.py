from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.headline_metrics import HEADLINES
from rlkit.tracking.live_progress import LiveProgress

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A live view on a terminal of `width` columns that remembers everything that was drawn."""

    def __init__(self, width: int) -> None:
        self.stream = io.StringIO()
        self.width = width
        console = Console(file=self.stream, force_terminal=True, width=width, height=24, highlight=False)
        self.view = LiveProgress(console)

    def panel(self) -> list[str]:
        """What is redrawn in place, as text."""
        console = Console(file=io.StringIO(), width=self.width, highlight=False)
        with console.capture() as capture:
            console.print(self.view._render())
        return capture.get().splitlines()

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.stream.getvalue())


@pytest.fixture(params=[80, 120])
def terminal(request) -> Terminal:
    return Terminal(request.param)


@pytest.fixture
def run(terminal, make_run) -> Iterator[RunInfo]:
    """A started run, finished whatever the test does: the panel has a thread of its own."""
    info = make_run(total_steps=40)
    terminal.view.start(info)
    yield info
    terminal.view.finish(info, "interrupted")


def all_headlines(kind: str) -> dict[str, float]:
    return {headline.metric: 0.125 for headline in HEADLINES[kind]}


def test_before_the_first_step_the_panel_says_that_work_is_under_way(terminal, run):
    assert terminal.panel()[0].startswith("step 0/40 ")
    assert "first step under way" in terminal.panel()[1]


def test_the_panel_has_the_bar_and_every_headline_within_the_width(terminal, run):
    terminal.view.step(run, 10, all_headlines("ppo"))
    panel = terminal.panel()
    assert panel[0].startswith("step 10/40 ")
    assert panel[0].rstrip().endswith("left")
    for headline in HEADLINES["ppo"]:
        assert sum(headline.label in line for line in panel) >= 1
    assert all(len(line) <= terminal.width for line in panel)
    assert len(panel) <= 8


def test_numbers_are_aligned_in_columns(terminal, run):
    terminal.view.step(run, 10, all_headlines("ppo"))
    rows = [line for line in terminal.panel()[1:] if line.strip()]
    ends = [[found.end() for found in re.finditer(r"(?<= )[\d.]+%?(?= |$)", row)] for row in rows]
    assert len(ends[0]) == 2
    assert all(row == ends[0][: len(row)] for row in ends)


def test_a_metric_shows_what_changed_and_how_it_went(terminal, run):
    for step, value in ((1, 0.25), (2, 0.75), (3, 0.5)):
        terminal.view.step(run, step, {"reward/mean": value})
    (line,) = [line for line in terminal.panel() if "reward" in line]
    assert line.split() == ["reward", "0.500", "-0.250", "\u2581\u2588\u2585"]


@pytest.mark.parametrize(("width", "height"), [(30, 24), (44, 10), (80, 24), (140, 40)])
def test_the_panel_fits_every_window(width, height, make_run):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False)
    view = LiveProgress(console)
    run = make_run(total_steps=40)
    view.start(run)
    for step in (1, 2):
        view.step(run, step, {name: value * step for name, value in all_headlines("ppo").items()})
    paper = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    with paper.capture() as capture:
        paper.print(view._render())
    view.finish(run, "interrupted")
    lines = capture.get().splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) < height
    assert any("reward" in line for line in lines)


def test_no_colour_is_used_where_none_is_wanted(make_run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    view = LiveProgress(Console(file=stream, force_terminal=True, width=80, height=24, highlight=False))
    run = make_run(total_steps=4)
    view.start(run)
    view.step(run, 1, {"reward/mean": 0.5})
    view.warning("odd")
    view.finish(run, "finished")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", stream.getvalue())


def test_validations_checkpoints_and_warnings_stay_as_lines_above(terminal, run):
    terminal.view.validation(run, 10, {"validation/score": 0.5})
    terminal.view.checkpoint(run, 10, Path("runs/[first]/checkpoints/step_000010"))
    terminal.view.notice("even [so]")
    terminal.view.warning("odd [really]")
    assert "validation after step 10: score 0.500" in terminal.text
    assert f"checkpoint {Path('runs/[first]/checkpoints/step_000010')}" in terminal.text
    assert "even [so]" in terminal.text
    assert "warning: odd [really]" in terminal.text


def test_the_last_validation_stays_in_the_panel_through_later_steps(terminal, run):
    terminal.view.validation(run, 10, {"validation/score": 0.875})
    terminal.view.step(run, 11, {"reward/mean": 0.5})
    assert any("0.875" in line for line in terminal.panel())


def test_a_finished_run_leaves_its_last_numbers_and_where_things_are(terminal, make_run):
    run = make_run(total_steps=2, folder=Path("runs/first"))
    terminal.view.start(run)
    for step in (1, 2):
        terminal.view.step(run, step, {"reward/mean": 0.5})
    terminal.view.finish(run, "finished")
    last = terminal.text.splitlines()[-1]
    assert last.startswith("ppo 'first' finished after 0:0")
    assert last.endswith(f": {Path('runs/first/model')}, {Path('runs/first/report.html')}")
    assert "step 2/2" in terminal.text


def test_an_interrupted_run_promises_no_time(terminal, make_run):
    run = make_run(total_steps=10)
    terminal.view.start(run)
    terminal.view.step(run, 1, {"reward/mean": 0.5})
    terminal.view.finish(run, "interrupted")
    assert "left" not in terminal.panel()[0]


def test_a_long_folder_is_never_broken_into_two_lines(terminal, make_run):
    folder = Path("runs") / ("long" * 40)
    run = make_run(folder=folder)
    terminal.view.start(run)
    terminal.view.finish(run, "finished")
    assert str(folder / "report.html") in terminal.text
