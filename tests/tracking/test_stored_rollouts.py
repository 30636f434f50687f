from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyarrow import parquet

from rlkit.errors import DataError
from rlkit.tracking.rollouts_file import GreedyAnswers, write_rollouts
from rlkit.tracking.stored_rollouts import read_rollouts
from rlkit.types import Conversation, Experience, Prompt, Ragged, Reward, Rollouts

SAID = Conversation(
    ({"role": "user", "content": "1+1?"},),
    (
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": "2"},
    ),
    "done",
    turn_rewards=(0.5, 1.0),
    tool_calls=3,
    tool_errors=1,
    cut_results=2,
)
REWARDS = (Reward(1 / 3, {"correct": 0.1}), Reward(0.0, error="ValueError: no number"), Reward(-1e-9))
GREEDY = GreedyAnswers([0.25, 1 / 7], [3, 1], [None, "late"])


@pytest.fixture
def experience() -> Experience:
    asked = ({"role": "user", "content": "1+1?"},)
    prompts = (Prompt(7, asked, reference=2, data_source="sums"), Prompt(9, text="two plus two"), Prompt(7, asked))
    response_ids = Ragged.from_rows([[5, 6, 7], [8], [1, 2]], dtype=torch.int64)
    mask = response_ids.with_values(torch.tensor([True, False, True, True, True, True]))
    rollouts = Rollouts(
        prompt_ids=Ragged.from_rows([[1, 2], [3, 4, 5], [1, 2]], dtype=torch.int64),
        response_ids=response_ids,
        response_mask=mask,
        rollout_log_probs=response_ids.with_values(torch.rand(6, generator=torch.Generator().manual_seed(1)).log()),
        group_ids=torch.tensor([1, 0, 1]),
        finish_reasons=("stop", "length", "abort"),
        policy_version=3,
        prompts=prompts,
    )
    values = response_ids.with_values(torch.rand(6, generator=torch.Generator().manual_seed(2)))
    return Experience(rollouts, values, values, mask, returns=values)


def same(left: Ragged | None, right: Ragged | None) -> bool:
    assert left is not None and right is not None
    return (
        left.values.dtype == right.values.dtype
        and left.values.equal(right.values)
        and left.lengths.equal(right.lengths)
    )


def test_everything_that_an_update_reads_comes_back_to_the_bit(tmp_path, experience):
    write_rollouts(tmp_path, 4, experience, ["2", "four", ""], REWARDS, GREEDY)
    stored = read_rollouts(tmp_path, 4)
    before, after = experience.rollouts, stored.rollouts
    for name in ("prompt_ids", "response_ids", "response_mask", "rollout_log_probs"):
        assert same(getattr(before, name), getattr(after, name)), name
    assert after.group_ids.equal(before.group_ids)
    assert (after.finish_reasons, after.policy_version) == (before.finish_reasons, before.policy_version)
    assert [prompt.question for prompt in after.prompts] == [prompt.question for prompt in before.prompts]
    assert after.prompts[0] == before.prompts[0]
    assert (stored.responses, stored.rewards, stored.greedy) == (("2", "four", ""), REWARDS, GREEDY)
    assert set(stored.tokens) == {"old_log_probs", "advantages", "returns", "loss_mask"}
    assert same(stored.tokens["returns"], experience.returns)


def test_what_the_step_did_without_is_none(tmp_path, experience):
    without = replace(experience, rollouts=replace(experience.rollouts, rollout_log_probs=None))
    write_rollouts(tmp_path, 1, without, ["2", "four", ""], REWARDS)
    stored = read_rollouts(tmp_path, 1)
    assert stored.rollouts.rollout_log_probs is stored.rollouts.conversations is stored.greedy is None


def test_conversations_come_back_with_their_turn_scores(tmp_path, experience):
    talked = replace(experience, rollouts=replace(experience.rollouts, conversations=(SAID, SAID, SAID)))
    rewards = [Reward(2.0, turn_scores=(0.5, 1.0)), Reward(0.0), Reward(1.5, turn_scores=(1.5,))]
    write_rollouts(tmp_path, 1, talked, ["2", "2", "2"], rewards)
    stored = read_rollouts(tmp_path, 1)
    assert [reward.turn_scores for reward in stored.rewards] == [(0.5, 1.0), (), (1.5,)]
    assert stored.rollouts.conversations is not None
    assert stored.rollouts.conversations[0] == SAID
    assert stored.rollouts.conversations[1] == replace(SAID, opening=())  # the prompt was a plain text


def test_a_missing_or_damaged_file_is_refused(tmp_path, experience):
    with pytest.raises(DataError, match=r"kept no rollouts of step 2 \(trainer.save_rollouts\)"):
        read_rollouts(tmp_path, 2)
    path = write_rollouts(tmp_path, 1, experience, ["2", "four", ""], REWARDS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        read_rollouts(tmp_path, 1)


def test_an_older_files_conversations_are_refused_and_its_answers_read(tmp_path, experience):
    talked = replace(experience, rollouts=replace(experience.rollouts, conversations=(SAID, SAID, SAID)))
    for each, step in ((experience, 1), (talked, 2)):
        path = write_rollouts(tmp_path, step, each, ["2", "four", ""], REWARDS)
        older = ["turn_scores", "conversation_facts", "greedy_score", "greedy_tokens", "greedy_error"]
        parquet.write_table(parquet.read_table(path).drop_columns(older), path)
    assert read_rollouts(tmp_path, 1).rewards == REWARDS
    with pytest.raises(DataError, match="written by an older rlkit"):
        read_rollouts(tmp_path, 2)


def test_a_token_takes_few_bytes(tmp_path, experience):
    """Four random floats a token, which nothing can press far together, and all that is repeated hardly counts."""
    rows, length = 256, 64
    generator = torch.Generator().manual_seed(0)
    ids = Ragged(
        torch.randint(0, 30_000, (rows * length,), generator=generator), torch.full((rows,), length, dtype=torch.int64)
    )
    noise = [ids.with_values(-torch.rand(rows * length, generator=generator)) for _ in range(4)]
    rollouts = replace(
        experience.rollouts,
        prompt_ids=ids,
        response_ids=ids,
        response_mask=ids.with_values(torch.ones(rows * length, dtype=torch.bool)),
        rollout_log_probs=noise[0],
        group_ids=torch.arange(rows) // 8,
        finish_reasons=("stop",) * rows,
        prompts=experience.rollouts.prompts[:1] * rows,
    )
    full = Experience(rollouts, noise[1], noise[2], rollouts.response_mask, returns=noise[3])
    path = write_rollouts(tmp_path, 1, full, ["2"] * rows, REWARDS[:1] * rows)
    assert path.stat().st_size / (rows * length) < 20
