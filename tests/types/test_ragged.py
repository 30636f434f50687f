"""Rows of different lengths: every operation against plain Python lists."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkit.types import Ragged

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=6)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [row.tolist() for row in ragged.rows()]


@given(ROWS)
def test_rows_come_back_as_they_went_in(rows):
    assert as_lists(Ragged.from_rows(rows, dtype=torch.int64)) == rows


@given(ROWS, st.data())
def test_select_picks_rows_in_any_order_and_more_than_once(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    ragged = Ragged.from_rows(rows, dtype=torch.int64)
    assert as_lists(ragged.select(chosen)) == [rows[index] for index in chosen]


@given(ROWS, st.integers(0, 3))
def test_padding_and_back_changes_nothing(rows, extra):
    ragged = Ragged.from_rows(rows, dtype=torch.int64)
    width = max(map(len, rows)) + extra
    padded = ragged.padded(-1, width=width)
    assert padded.shape == (len(rows), width)
    assert all(padded[index].tolist() == row + [-1] * (width - len(row)) for index, row in enumerate(rows))
    assert as_lists(Ragged.from_padded(padded, ragged.lengths)) == rows


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_concatenation_keeps_the_order(parts):
    joined = Ragged.concatenate(Ragged.from_rows(rows, dtype=torch.int64) for rows in parts)
    assert as_lists(joined) == [row for rows in parts for row in rows]


@given(ROWS)
def test_row_index_and_offsets_say_where_each_token_lives(rows):
    ragged = Ragged.from_rows(rows, dtype=torch.int64)
    assert ragged.row_index().tolist() == [index for index, row in enumerate(rows) for _ in row]
    offsets = ragged.offsets.tolist()
    assert [ragged.values[a:b].tolist() for a, b in itertools.pairwise(offsets)] == rows


def test_gradients_flow_through_padding():
    values = torch.arange(3.0, requires_grad=True)
    Ragged(values, torch.tensor([1, 2])).padded(0.0).mul(torch.tensor([[1.0, 9.0], [2.0, 3.0]])).sum().backward()
    assert values.grad.tolist() == [1.0, 2.0, 3.0]


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="sum to 3, but there are 4 values"):
        Ragged(torch.zeros(4), torch.tensor([1, 2]))


def test_a_width_below_the_longest_row_is_refused():
    with pytest.raises(ValueError, match="width 1 is shorter than the longest row"):
        Ragged.from_rows([[1, 2]]).padded(0, width=1)
