from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.data.order import EpochOrder
from rlkit.errors import CheckpointError


@given(st.integers(1, 50), st.lists(st.integers(0, 30), max_size=12), st.integers(0, 5), st.booleans())
def test_every_row_comes_once_an_epoch_whatever_the_batches(
    rows: int, batches: list[int], seed: int, shuffle: bool
) -> None:
    order = EpochOrder(rows, seed=seed, shuffle=shuffle)
    taken = [row for batch in batches for row in order.take(batch)]
    assert len(taken) == sum(batches)
    for start in range(0, len(taken) - rows + 1, rows):
        assert sorted(taken[start : start + rows]) == list(range(rows))
    assert (order.epoch, order.position) == divmod(len(taken), rows)
    assert order.epochs_done == pytest.approx(len(taken) / rows)
    assert taken == EpochOrder(rows, seed=seed, shuffle=shuffle).take(len(taken))


@given(st.integers(1, 20), st.integers(0, 70), st.integers(0, 70))
def test_a_restored_order_goes_on_as_if_never_stopped(rows: int, before: int, after: int) -> None:
    whole = EpochOrder(rows, seed=3)
    expected = whole.take(before + after)[before:]
    stopped = EpochOrder(rows, seed=3)
    stopped.take(before)
    state = json.loads(json.dumps(stopped.state()))
    assert EpochOrder.from_state(state).take(after) == expected
    other = EpochOrder(rows, seed=3)
    other.restore(state)
    assert other.take(after) == expected


def test_epochs_and_seeds_differ_and_no_shuffle_means_file_order() -> None:
    order = EpochOrder(100, seed=0)
    first, second = order.take(100), order.take(100)
    assert first != second
    assert first != list(range(100))
    assert EpochOrder(100, seed=1).take(100) != first
    assert EpochOrder(3, seed=0, shuffle=False).take(7) == [0, 1, 2, 0, 1, 2, 0]


def test_the_order_of_a_seed_never_changes() -> None:
    assert EpochOrder(10, seed=42).take(12) == [5, 6, 0, 7, 3, 2, 4, 9, 1, 8, 0, 8]


@pytest.mark.parametrize("other", [EpochOrder(4, seed=0), EpochOrder(5, seed=1), EpochOrder(5, seed=0, shuffle=False)])
def test_a_cursor_of_other_data_is_refused(other: EpochOrder) -> None:
    with pytest.raises(CheckpointError, match="same data and seed"):
        other.restore(EpochOrder(5, seed=0).state())


def test_an_empty_order_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        EpochOrder(0, seed=0)
