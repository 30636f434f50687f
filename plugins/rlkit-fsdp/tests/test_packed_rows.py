from __future__ import annotations

import pytest
import torch
from rlkit_fsdp.packed_rows import pack_conversations, pack_rollouts, row_lengths

from rlkit.types import Ragged, SupervisedBatch


def conversations(rows, masks):
    return SupervisedBatch(Ragged.from_rows(rows, dtype=torch.int64), Ragged.from_rows(masks, dtype=torch.bool))


class TestRollouts:
    def test_prompts_and_responses_lie_end_to_end(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [3]], [[4, 5, 6], [7, 8]]), "cpu")
        assert rows.token_ids.tolist() == [1, 2, 4, 5, 6, 3, 7, 8]
        assert rows.layout.lengths == (5, 3)
        assert rows.targets.tolist() == [4, 5, 6, 7, 8]

    def test_each_response_token_is_predicted_from_the_position_before_it(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [3]], [[4, 5, 6], [7, 8]]), "cpu")
        assert rows.predict_at.tolist() == [1, 2, 3, 5, 6]
        assert rows.token_ids[rows.predict_at + 1].tolist() == rows.targets.tolist()

    def test_a_row_without_a_response_predicts_nothing(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [3]], [[], [7]]), "cpu")
        assert rows.predict_at.tolist() == [2]
        assert rows.targets.tolist() == [7]

    def test_an_empty_prompt_is_refused(self, rollouts):
        with pytest.raises(ValueError, match="a prompt has no tokens"):
            pack_rollouts(rollouts([[1], []], [[2], [3]]), "cpu")

    def test_row_lengths_count_prompt_and_response(self, rollouts):
        assert row_lengths(rollouts([[1, 2], [3]], [[4, 5, 6], []])) == [5, 1]


class TestConversations:
    def test_only_tokens_in_the_loss_mask_are_targets(self):
        batch = conversations([[1, 2, 3], [4, 5]], [[False, False, True], [False, True]])
        rows = pack_conversations(batch, "cpu")
        assert rows.token_ids.tolist() == [1, 2, 3, 4, 5]
        assert rows.targets.tolist() == [3, 5]
        assert rows.predict_at.tolist() == [1, 3]

    def test_several_turns_are_learned_and_what_lies_between_is_not(self):
        batch = conversations([[1, 2, 3, 4, 5]], [[False, True, False, False, True]])
        rows = pack_conversations(batch, "cpu")
        assert rows.targets.tolist() == [2, 5]
        assert rows.predict_at.tolist() == [0, 3]

    def test_a_first_token_in_the_loss_mask_is_refused(self):
        # In the second row, where the position before belongs to another conversation.
        with pytest.raises(ValueError, match="nothing comes before it"):
            pack_conversations(conversations([[1, 2], [3, 4]], [[False, True], [True, True]]), "cpu")

    def test_an_empty_conversation_is_left_out(self):
        rows = pack_conversations(conversations([[1, 2], [], [3, 4]], [[False, True], [], [False, True]]), "cpu")
        assert rows.layout.lengths == (2, 2)
        assert rows.targets.tolist() == [2, 4]
