"""Rows over ranks."""

import random

import pytest
import torch

from rlkit.data.sharding import balanced_shards, in_row_order, row_order
from rlkit.types import Ragged


def test_every_row_goes_to_exactly_one_rank_and_each_rank_has_its_rows_in_order() -> None:
    draw = random.Random(3)
    for _ in range(50):
        lengths = [draw.randrange(0, 40) for _ in range(draw.randrange(0, 30))]
        shards = balanced_shards(lengths, draw.randrange(1, 6))
        assert sorted(row for shard in shards for row in shard) == list(range(len(lengths)))
        assert all(shard == sorted(shard) for shard in shards)


def test_the_longest_rows_go_to_the_emptiest_ranks() -> None:
    # 7 -> rank 0, 6 -> rank 1, 5 -> rank 1 (6 < 7), 4 -> rank 0 (7 < 11), 3 -> 0 (tie at 11, fewer rank number)
    assert balanced_shards([3, 4, 5, 6, 7], 2) == [[0, 1, 4], [2, 3]]


def test_no_rank_holds_more_than_a_third_above_the_bound_that_no_split_can_beat() -> None:
    draw = random.Random(5)
    for _ in range(50):
        lengths = [draw.randrange(1, 100) for _ in range(40)]
        ranks = draw.randrange(2, 8)
        tokens = [sum(lengths[row] for row in shard) for shard in balanced_shards(lengths, ranks)]
        assert max(tokens) <= 4 / 3 * max(sum(lengths) / ranks, max(lengths)) + 1


def test_rows_of_one_length_are_dealt_out_in_turn() -> None:
    assert balanced_shards([8] * 6, 3) == [[0, 3], [1, 4], [2, 5]]
    assert balanced_shards([0] * 4, 2) == [[0, 2], [1, 3]]


def test_fewer_rows_than_ranks_leave_ranks_without_any() -> None:
    assert balanced_shards([4], 3) == [[0], [], []]
    assert balanced_shards([], 2) == [[], []]


def test_no_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="over 0 ranks"):
        balanced_shards([1], 0)


def test_results_of_the_ranks_come_back_in_the_order_of_the_rows() -> None:
    rows = [[1.0], [2.0, 2.5], [], [4.0, 4.5, 4.75], [5.0]]
    whole = Ragged.from_rows(rows, dtype=torch.float32)
    shards = balanced_shards([len(row) for row in rows], 3)
    back = in_row_order([whole.select(shard) for shard in shards], shards)
    assert back.values.tolist() == whole.values.tolist()
    assert back.lengths.tolist() == whole.lengths.tolist()
    assert row_order([[1, 2], [0]]) == [2, 0, 1]


def test_a_rank_that_returns_another_number_of_rows_is_named() -> None:
    part = Ragged.from_rows([[1.0]], dtype=torch.float32)
    with pytest.raises(ValueError, match="rank 1 returned 1 rows where it was given 2"):
        in_row_order([part, part], [[0], [1, 2]])
