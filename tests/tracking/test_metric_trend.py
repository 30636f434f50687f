from __future__ import annotations

import math

import pytest

from rlkit.tracking.metric_trend import BARS, PLAIN_BARS, MetricTrends, sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0.0, 1.0], 8, "▁█"),
        ([0.0, 7.0, 3.0], 8, "▁█▄"),
        ([5.0, 5.0, 5.0], 8, "▄▄▄"),
        ([0.0, 0.0, 7.0, 7.0], 2, "▁█"),
        ([1.0], 8, ""),
        ([], 8, ""),
        ([1.0, 2.0], 0, ""),
        ([0.0, math.nan, math.inf, 1.0], 8, "▁█"),
    ],
)
def test_a_line_goes_from_the_smallest_to_the_largest_value(values, width, line):
    assert sparkline(values, width) == line


def test_a_long_history_is_averaged_to_the_width():
    assert sparkline([float(at) for at in range(400)], 8) == BARS


def test_a_terminal_without_bars_gets_plain_characters():
    assert sparkline([0.0, 1.0, 2.0], 8, bars=PLAIN_BARS).isascii()


def test_the_change_is_that_since_the_step_before():
    trends = MetricTrends()
    assert trends.change("a") is None
    for value in (1.0, 3.0, 2.5):
        trends.note({"a": value})
    assert (trends.change("a"), trends.values("a")) == (-0.5, (1.0, 3.0, 2.5))
    trends.note({"a": math.nan})
    assert trends.change("a") is None
