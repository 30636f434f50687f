from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rlkit_fsdp.micro_batches import split_rollouts
from rlkit_fsdp.packed_rows import pack_rollouts
from rlkit_fsdp.pass_size import pass_tokens

from rlkit.data.micro_batches import split_by_tokens


class TestRollouts:
    def test_rows_that_share_their_prompt_stay_together_and_it_counts_once(self, rollouts):
        batch = rollouts([[1] * 6, [2] * 6, [1] * 6, [2] * 6], [[3, 3]] * 4)
        assert split_rollouts(batch, 10, "cpu") == [[0, 2], [1, 3]]
        assert split_rollouts(batch, 20, "cpu") == [[0, 1, 2, 3]]

    def test_a_prompt_with_too_many_answers_is_there_more_than_once(self, rollouts):
        assert split_rollouts(rollouts([[1] * 6] * 3, [[3, 3]] * 3), 10, "cpu") == [[0, 1], [2]]

    def test_rows_that_share_nothing_are_split_by_their_tokens(self, rollouts):
        batch = rollouts([[1], [2, 2], [3]], [[4, 4, 4], [5], [6, 6, 6]])
        assert split_rollouts(batch, 7, "cpu") == split_by_tokens([4, 3, 4], 7)

    def test_a_part_of_a_group_that_would_not_share_its_prompt_keeps_to_the_budget(self, rollouts):
        batch = rollouts([[1] * 50] * 8, [[2] * length for length in (350, 368, *[1] * 6)])
        batches = split_rollouts(batch, 768, "cpu")
        assert len(batches) == 2
        assert max(len(pack_rollouts(batch.select(rows), "cpu").token_ids) for rows in batches) <= 768

    @given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 60)), max_size=12), st.integers(1, 20), st.data())
    def test_packed_rows_keep_to_any_budget_that_passes_take(self, rollouts, rows, prompt_length, data):
        device = "cpu"
        budget = pass_tokens(data.draw(st.integers(10, 300)), device=device, processes=1)
        batch = rollouts([[prompt] * prompt_length for prompt, _ in rows], [[7] * length for _, length in rows])
        batches = split_rollouts(batch, budget, device)
        plain = split_by_tokens([prompt_length + length for _, length in rows], budget)
        assert sorted(row for chosen in batches for row in chosen) == list(range(len(rows)))
        assert len(batches) <= len(plain)
        for chosen in batches:
            assert len(chosen) == 1 or len(pack_rollouts(batch.select(chosen), device).token_ids) <= budget

    def test_no_rows_make_no_micro_batches(self, rollouts):
        assert split_rollouts(rollouts([], []), 10, "cpu") == []
