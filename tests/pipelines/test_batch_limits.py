"""Bounds on micro-batches hold for the real splitting, and impossible batches are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.errors import ConfigError, DataError
from rlkit.pipelines.batch_limits import (
    check_context,
    check_enough_prompts,
    largest_micro_batch,
    most_micro_batches,
)


def test_rows_are_never_cut_so_room_is_left_over():
    # 10 rows of 768 fit into 8192, not 10.67: 256 rows take 26 micro-batches, though 256 * 768 / 8192 is 24.
    assert most_micro_batches(256, 768, 8192) == 26
    assert most_micro_batches(256, 768, 768) == 256


def test_a_row_beyond_the_budget_goes_alone():
    assert most_micro_batches(5, 1000, 300) == 5
    assert largest_micro_batch(5, 1000, 300) == 1000


def test_a_small_batch_does_not_fill_the_budget():
    assert most_micro_batches(4, 64, 8192) == 1
    assert largest_micro_batch(4, 64, 8192) == 256


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 120), st.integers(0, 20))
def test_bounds_hold_for_the_splitting_that_the_backend_does(lengths, budget, slack):
    splitting = pytest.importorskip("rlkit_fsdp.micro_batches")
    batches = splitting.split_by_tokens(lengths, budget)
    longest = max(lengths) + slack
    assert len(batches) <= most_micro_batches(len(lengths), longest, budget)
    most_tokens = max(sum(lengths[row] for row in rows) for rows in batches)
    assert most_tokens <= largest_micro_batch(len(lengths), longest, budget)


def test_the_bound_is_met_when_all_rows_are_longest():
    splitting = pytest.importorskip("rlkit_fsdp.micro_batches")
    for rows, longest, budget in [(256, 768, 8192), (7, 30, 100), (3, 50, 10)]:
        assert len(splitting.split_by_tokens([longest] * rows, budget)) == most_micro_batches(rows, longest, budget)


def test_prompt_and_answer_must_fit_the_context():
    check_context(100, 28, 128, keys=("a.prompt", "b.answer"))
    with pytest.raises(ConfigError, match=r"a\.prompt 100 \+ b\.answer 29 exceed the model's context of 128 tokens"):
        check_context(100, 29, 128, keys=("a.prompt", "b.answer"))


def test_a_step_never_asks_a_prompt_twice():
    check_enough_prompts(16, 16)
    with pytest.raises(DataError, match=r"rollout\.prompts_per_step = 17, but data\.train has 16 prompts"):
        check_enough_prompts(17, 16)
    with pytest.raises(DataError, match="the data set is empty"):
        check_enough_prompts(1, 0)
