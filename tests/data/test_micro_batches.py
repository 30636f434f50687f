from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlkit.data.micro_batches import split_by_tokens

LENGTHS = st.lists(st.integers(0, 40), max_size=30)


def test_rows_share_a_micro_batch_while_they_fit():
    assert split_by_tokens([4, 3, 3], 10) == [[0, 1, 2]]
    assert split_by_tokens([4, 3, 4], 10) == [[0, 2], [1]]


def test_a_row_longer_than_the_budget_goes_alone():
    assert split_by_tokens([2, 50, 3], 10) == [[1], [0, 2]]


def test_a_later_row_fills_an_earlier_gap():
    # First fit decreasing: 6 and 4 fill the first, 5 and 5 the second.
    assert split_by_tokens([6, 5, 5, 4], 10) == [[0, 3], [1, 2]]


def test_no_rows_make_no_micro_batches():
    assert split_by_tokens([], 10) == []


@given(LENGTHS, st.integers(1, 60))
def test_every_row_is_there_once_and_no_budget_is_exceeded(lengths, budget):
    batches = split_by_tokens(lengths, budget)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert rows == sorted(rows)
        assert len(rows) == 1 or sum(lengths[row] for row in rows) <= budget


@given(LENGTHS, st.integers(1, 60))
def test_at_most_one_micro_batch_is_half_empty(lengths, budget):
    totals = [sum(lengths[row] for row in rows) for rows in split_by_tokens(lengths, budget)]
    assert sum(total <= budget / 2 for total in totals) <= 1
