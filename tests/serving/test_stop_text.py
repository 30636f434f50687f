from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.serving.stop_text import StopText, possible_beginning

TEXTS = st.text(alphabet="ab#", max_size=30)


@given(TEXTS, st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_the_text_before_the_first_stop_string_comes_out_whatever_the_pieces(
    text: str, stops: list[str], size: int
) -> None:
    buffer, out = StopText(stops), ""
    for start in range(0, len(text), size):
        out += buffer.add(text[start : start + size])
    out += buffer.finish()
    ends = (n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops))
    end = next(ends, None)
    assert buffer.stopped == (end is not None)
    longest = max((len(stop) for stop in stops if end is not None and text[:end].endswith(stop)), default=0)
    assert out == (text if end is None else text[: end - longest])


def test_a_beginning_is_held_back_until_it_is_known() -> None:
    buffer = StopText(["END"])
    assert [buffer.add(piece) for piece in ("aE", "N", "x", "EN", "D", "more")] == ["a", "", "ENx", "", "", ""]
    assert buffer.stopped
    assert buffer.finish() == ""


def test_what_was_held_back_comes_at_the_end_when_nothing_stopped() -> None:
    buffer = StopText(["END"])
    assert buffer.add("aEN") + buffer.finish() == "aEN"


def test_the_first_of_several_stop_strings_counts() -> None:
    assert StopText(["long stop", "s"]).add("a long stop") == "a long "


@pytest.mark.parametrize(("text", "expected"), [("abc", 0), ("ab<", 1), ("ab<to", 3), ("<tool", 5), ("<tool>", 0)])
def test_how_much_may_be_a_beginning(text: str, expected: int) -> None:
    assert possible_beginning(text, "<tool>") == expected
