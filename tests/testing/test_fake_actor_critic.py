from __future__ import annotations

import pytest
import torch

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.testing.fake_actor_critic import FakeActorCritic
from rlkit.testing.fakes import FakeActor, FakeEngine, fake_prompts
from rlkit.types import Experience, SamplingParams

POLICY = PolicyObjective(PPOClip(0.2, 0.2, 3.0), Aggregation("token_mean"))
VALUE = ValueObjective(10.0)


@pytest.fixture
def experience() -> Experience:
    rollouts = FakeEngine().generate(fake_prompts(4), SamplingParams(max_tokens=2, samples=4, seed=0))
    responses = rollouts.response_ids
    assert rollouts.rollout_log_probs is not None
    return Experience(
        rollouts=rollouts,
        old_log_probs=rollouts.rollout_log_probs,
        advantages=responses.with_values(torch.ones(responses.num_tokens)),
        loss_mask=rollouts.response_mask,
        returns=responses.with_values(torch.ones(responses.num_tokens)),
        old_values=responses.with_values(torch.zeros(responses.num_tokens)),
    )


def test_a_head_of_zero_leaves_the_first_policy_update_alone(experience):
    model, actor = FakeActorCritic(), FakeActor()
    model.update_jointly(experience, JointObjective(POLICY, VALUE, 1.0), temperature=1.0)
    actor.update_policy(experience, POLICY, temperature=1.0)
    assert model.parameter.item() == actor.parameter.item()
    assert model.score.item() == pytest.approx(0.5)  # half way to the return of 1


def test_later_the_value_loss_moves_the_trunk_too(experience):
    model, actor = FakeActorCritic(), FakeActor()
    for _ in range(2):
        model.update_jointly(experience, JointObjective(POLICY, VALUE, 1.0), temperature=1.0)
        actor.update_policy(experience, POLICY, temperature=1.0)
    assert model.parameter.item() > actor.parameter.item()  # a larger trunk makes the value larger: towards 1


def test_the_head_learns_alone_and_approaches_the_returns(experience):
    model = FakeActorCritic()
    for _ in range(30):
        model.update_head(experience, VALUE)
    assert model.parameter.item() == 0.0
    assert model.compute_values(experience.rollouts).values.tolist() == pytest.approx([1.0] * 32, abs=0.01)
