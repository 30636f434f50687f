from __future__ import annotations

import pytest
import torch
from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.packed_rows import pack_conversations, pack_rollouts, prompt_groups

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


def test_a_long_row_ends_in_tokens_that_nothing_is_predicted_from(rollouts):
    for rows in (
        pack_rollouts(rollouts([[1] * 50], [[2] * 50]), "cpu"),
        pack_conversations(conversations([[1] * 100], [[False] * 50 + [True] * 50]), "cpu"),
    ):
        assert len(rows.token_ids) % 64 == 0
        assert rows.layout.lengths == (100, 28)
        assert int(rows.predict_at.max()) == 98


class TestSharedPrompts:
    """Rows 0 and 2 have the same prompt, long enough to be worth sharing."""

    def test_the_prompt_is_there_once_and_its_answers_go_on_from_it(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [3], [1, 2]], [[4, 5, 6], [7], [8]]), "cpu")
        assert rows.token_ids.tolist() == [1, 2, 4, 5, 6, 8, 3, 7]
        assert rows.layout.lengths == (2, 3, 1, 2)
        assert rows.layout.continues == (-1, 0, 0, -1)
        assert rows.layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 0, 1]]

    def test_targets_stay_in_row_order_and_first_tokens_are_predicted_from_the_prompt(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [3], [1, 2]], [[4, 5, 6], [7], [8]]), "cpu")
        assert rows.targets.tolist() == [4, 5, 6, 7, 8]
        assert rows.predict_at.tolist() == [1, 2, 3, 6, 1]

    def test_an_empty_answer_is_no_segment(self, rollouts):
        rows = pack_rollouts(rollouts([[1, 2], [1, 2]], [[], [8]]), "cpu")
        assert rows.layout.lengths == (2, 1)
        assert rows.predict_at.tolist() == [1]

    def test_a_prompt_that_is_short_beside_its_answers_is_not_shared(self, rollouts):
        rows = pack_rollouts(rollouts([[1], [1]], [[2] * 9, [3] * 9]), "cpu")
        assert rows.layout.continues == (-1, -1)

    def test_prompts_are_shared_on_a_cpu_only(self, rollouts):
        batch = rollouts([[1, 2], [3], [1, 2]], [[4, 5, 6], [7], [8]])
        assert prompt_groups(batch, "cpu") == [[0, 2], [1]]
        assert prompt_groups(batch, "cuda") == [[0], [2], [1]]

    def test_log_probs_and_gradients_are_those_of_rows_apart(self, rollouts, role, monkeypatch):
        batch = rollouts([[1, 2, 3], [4, 5], [1, 2, 3], [4, 5]], [[6, 7, 8], [9], [10], [11, 12]])
        found = []
        for least in (0.0, float("inf")):
            monkeypatch.setattr("rlkit_fsdp.packed_rows.LEAST_PROMPT", least)
            model = FSDPActor(role())
            rows = pack_rollouts(batch, "cpu")
            log_probs = model.root.statistics(rows, 0.7).log_probs
            (log_probs * torch.linspace(-1, 2, len(log_probs))).sum().backward()
            gradients = {name: parameter.grad for name, parameter in model.module.named_parameters()}
            found.append((len(rows.token_ids), log_probs.detach(), gradients))
        (shared_tokens, shared, ours), (tokens, apart, theirs) = found
        assert (shared_tokens, tokens) == (12, 17)
        torch.testing.assert_close(shared, apart, atol=1e-5, rtol=0)
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-6, rtol=1e-4)
