"""The metrics of an update are those of its mini-batch, however it is split."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.critic import FSDPCritic

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.types import Experience, Ragged

PROMPTS = [[3, 4], [5], [6, 7, 8], [9]]
RESPONSES = [[10, 11, 12, 13, 14], [15, 2], [16], [17, 18, 19]]


@pytest.fixture
def experience(rollouts, role) -> Experience:
    """Old log-probs so far from the policy that a tight clip stops tokens on both sides."""
    made = rollouts(PROMPTS, RESPONSES)
    generator = torch.Generator().manual_seed(3)
    responses = made.response_ids

    def noise(scale: float) -> Ragged:
        return responses.with_values(scale * torch.randn(responses.num_tokens, generator=generator))

    log_probs = FSDPActor(role()).compute_log_probs(made, temperature=1.0).log_probs.values
    return Experience(
        rollouts=made,
        old_log_probs=responses.with_values(log_probs + noise(1.0).values),
        advantages=noise(1.0),
        loss_mask=made.response_mask,
        returns=noise(1.0),
        old_values=noise(1.0),
        ref_log_probs=responses.with_values(log_probs + noise(0.3).values),
    )


@pytest.mark.parametrize("tokens", [7, 5])
def test_the_actor_s(role, experience, tokens):
    objective = PolicyObjective(PPOClip(0.2, 0.2, 1.5), Aggregation("seq_mean_token_mean"), 0.1, "k3", 0.01)

    def update(**changes):
        return FSDPActor(role(**changes)).update_policy(experience, objective, temperature=1.0)

    whole = update(micro_batch_tokens=8192)
    assert update(micro_batch_tokens=tokens) == pytest.approx(whole, rel=1e-4, abs=1e-6)
    sides = [whole[f"actor/{name}"] for name in ("clip_fraction_low", "clip_fraction_high", "dual_clip_fraction")]
    assert min(sides) > 0
    assert whole["actor/clip_fraction"] == pytest.approx(sides[0] + sides[1])
    # 11 tokens: a fraction is a number of tokens.
    assert sides[0] * 11 == pytest.approx(round(sides[0] * 11), abs=1e-4)


def test_the_critic_s(role, experience):
    def update(**changes):
        return FSDPCritic(role(**changes)).update_values(experience, ValueObjective(clip=0.2))

    whole = update(micro_batch_tokens=8192)
    assert update(micro_batch_tokens=7) == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert 0 < whole["critic/clip_fraction"] < 1


def test_what_is_rejected_is_in_no_mean(role, experience):
    objective = PolicyObjective(PPOClip(0.2, 0.2, 3.0), Aggregation("token_mean"))
    kept = torch.ones(11, dtype=torch.bool)
    kept[:5] = False
    rejected = replace(experience, loss_mask=experience.loss_mask.with_values(kept))

    def update(batch):
        return FSDPActor(role()).update_policy(batch, objective, temperature=1.0)

    assert update(rejected) == pytest.approx(update(experience.select([1, 2, 3])), rel=1e-4, abs=1e-6)
