from __future__ import annotations

import math

import pytest
import torch

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.algos.policy_losses.kl_cov import KLCov
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.testing.fakes import (
    END,
    RIGHT,
    WEIGHT_NAME,
    WRONG,
    FakeActor,
    FakeCritic,
    FakeEngine,
    FakeScorer,
    FakeTokenizer,
    fake_prompts,
)
from rlkit.types import Experience, Sample, SamplingParams

SAMPLING = SamplingParams(max_tokens=2, samples=4, seed=0)
OBJECTIVE = PolicyObjective(PPOClip(0.2, 0.2, 3.0), Aggregation("token_mean"))


@pytest.fixture
def experience() -> Experience:
    """Right answers are worth 1, wrong ones -1."""
    rollouts = FakeEngine().generate(fake_prompts(4), SAMPLING)
    responses = rollouts.response_ids
    worth = torch.where(responses.values == WRONG, -1.0, 1.0)
    assert {RIGHT, WRONG} < set(responses.values.tolist())
    assert rollouts.rollout_log_probs is not None
    return Experience(
        rollouts=rollouts,
        old_log_probs=rollouts.rollout_log_probs,
        advantages=responses.with_values(worth),
        loss_mask=rollouts.response_mask,
        returns=responses.with_values(torch.ones(responses.num_tokens)),
        old_values=responses.with_values(torch.zeros(responses.num_tokens)),
    )


class TestEngine:
    def test_rows_follow_the_prompts(self):
        rollouts = FakeEngine().generate(fake_prompts(3), SAMPLING)
        assert rollouts.group_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert [row.tolist() for row in rollouts.prompt_ids.rows()][::4] == [[3, 4], [3, 5], [3, 6]]
        assert all(row.tolist()[1] == END for row in rollouts.response_ids.rows())

    def test_the_seed_decides(self):
        answers = [FakeEngine().generate(fake_prompts(8), SAMPLING).response_ids.values.tolist() for _ in range(2)]
        assert answers[0] == answers[1]

    @pytest.mark.parametrize(("log_odds", "word"), [(0.1, RIGHT), (-0.1, WRONG)])
    def test_greedy_answers_are_the_likelier_word(self, log_odds, word):
        greedy = SamplingParams(max_tokens=2, temperature=0.0)
        answers = FakeEngine(log_odds).generate(fake_prompts(3), greedy).response_ids.values.tolist()
        assert answers == [word, END] * 3

    def test_log_probs_are_those_of_the_log_odds(self):
        rollouts = FakeEngine(log_odds=math.log(3)).generate(fake_prompts(4), SAMPLING)
        assert rollouts.rollout_log_probs is not None
        expected = {RIGHT: math.log(0.75), WRONG: math.log(0.25), END: 0.0}
        for token, log_prob in zip(
            rollouts.response_ids.values.tolist(), rollouts.rollout_log_probs.values.tolist(), strict=True
        ):
            assert log_prob == pytest.approx(expected[token])

    def test_new_weights_change_the_answers_and_the_version(self):
        engine = FakeEngine()
        engine.update_weights([(WEIGHT_NAME, torch.tensor(50.0))], 3)
        rollouts = engine.generate(fake_prompts(4), SAMPLING)
        assert rollouts.policy_version == 3
        assert set(rollouts.response_ids.values.tolist()) == {RIGHT, END}
        assert engine.calls == ["update_weights", "generate"]


class TestActor:
    def test_it_agrees_with_the_engine_about_log_probs(self):
        rollouts = FakeEngine(log_odds=0.7).generate(fake_prompts(4), SAMPLING)
        found = FakeActor(log_odds=0.7).compute_log_probs(rollouts, temperature=1.0).log_probs.values
        assert rollouts.rollout_log_probs is not None
        torch.testing.assert_close(found, rollouts.rollout_log_probs.values)

    def test_updates_make_right_answers_likelier(self, experience):
        actor = FakeActor()
        metrics = actor.update_policy(experience, OBJECTIVE, temperature=1.0)
        assert actor.parameter.item() > 0
        assert metrics["actor/grad_norm"] > 0
        assert dict(actor.export_weights())[WEIGHT_NAME].item() == actor.parameter.item()

    def test_a_loss_that_chooses_tokens_gets_to_choose(self, experience):
        objective = PolicyObjective(KLCov(0.1, 1.0), Aggregation("token_mean"))
        metrics = FakeActor().update_policy(experience, objective, temperature=1.0)
        assert metrics["actor/selected_fraction"] == pytest.approx(3 / 32)

    def test_a_restored_actor_goes_on_alike(self, experience, tmp_path):
        first, second = FakeActor(), FakeActor()
        first.update_policy(experience, OBJECTIVE, temperature=1.0)
        first.save(tmp_path)
        second.load(tmp_path)
        for actor in (first, second):
            actor.update_policy(experience, OBJECTIVE, temperature=1.0)
        assert (first.parameter.item(), first.updates) == (second.parameter.item(), second.updates)


def test_the_critic_approaches_the_returns(experience):
    critic = FakeCritic()
    for _ in range(20):
        critic.update_values(experience, ValueObjective(clip=10.0))
    assert critic.compute_values(experience.rollouts).values.tolist() == pytest.approx([1.0] * 32, abs=0.01)


def test_the_scorer_likes_the_right_word():
    prompt = fake_prompts(1).prompts[0]
    rewards = FakeScorer().score([Sample(prompt, "right"), Sample(prompt, "wrong"), Sample(prompt, "")])
    assert [reward.score for reward in rewards] == [1.0, 0.0, 0.0]


def test_the_tokenizer_goes_both_ways():
    tokenizer = FakeTokenizer()
    assert tokenizer.encode("right wrong") == [RIGHT, WRONG]
    assert tokenizer.batch_decode([[RIGHT, END], [WRONG, END]]) == ["right", "wrong"]
