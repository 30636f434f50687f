"""Which answers are shown when there are too many."""

from __future__ import annotations

import pytest

from rlkit.reports.choosing import EXTREMES, choose_rows, fair_share


def test_best_and_worst_answers_are_always_among_them() -> None:
    scores = [0.5] * 400
    scores[123], scores[321] = 1.0, 0.0
    rows = choose_rows([row // 4 for row in range(400)], scores, 40)
    assert {123, 321} <= set(rows)
    assert len(rows) <= 40
    assert rows == sorted(set(rows))


def test_wanted_rows_come_before_all_others() -> None:
    rows = choose_rows([row // 4 for row in range(400)], [0.5] * 400, 12, wanted=(7, 200))
    assert {7, 200} <= set(rows)
    assert len(rows) <= 12
    assert choose_rows(list(range(400)), [], 2, wanted=(7, 200, 300)) == [7, 200]


def test_prompts_are_shown_with_all_of_their_answers() -> None:
    groups = [row // 8 for row in range(800)]
    rows = choose_rows(groups, [0.5] * 800, 40)
    whole = [group for group in set(groups) if {8 * group + at for at in range(8)} <= set(rows)]
    assert len(whole) >= (40 - 2 * EXTREMES) // 8 - 1


@pytest.mark.parametrize("count", [1, 3, 5])
def test_few_answers_are_all_shown_and_a_small_limit_holds(count: int) -> None:
    assert choose_rows([row // 4 for row in range(40)], [0.5] * 40, 40) == list(range(40))
    assert 1 <= len(choose_rows(list(range(50)), [0.0] * 50, count)) <= count


def test_rows_without_groups_and_scores_can_be_chosen() -> None:
    assert choose_rows([None, None], [], 5) == [0, 1]
    assert choose_rows([], [], 5) == []


@pytest.mark.parametrize(
    ("sizes", "limit", "share"),
    [([3, 4], 10, 4), ([10, 2, 10], 12, 5), ([100] * 4, 40, 10), ([5, 5], 1, 1), ([], 9, 1)],
)
def test_each_step_may_keep_as_much_as_leaves_all_within_the_limit(sizes: list[int], limit: int, share: int) -> None:
    assert fair_share(sizes, limit) == share
