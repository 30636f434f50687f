"""From verdicts to experience: KL in the reward, masks, what is absent."""

from __future__ import annotations

import pytest
import torch

from rlkit.testing.fakes import FakeActor, FakeCritic, FakeEngine, fake_prompts
from rlkit.trainers.experience import AdvantageSettings, ask_models, build_experience
from rlkit.types import Reward, SamplingParams

SCORES = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]


def build(estimator="gae", *, kl=0.0, reference=None, critic=True):
    rollouts = FakeEngine().generate(fake_prompts(2), SamplingParams(max_tokens=2, samples=4))
    answers = ask_models(rollouts, FakeActor(), reference, FakeCritic(value=0.25) if critic else None, temperature=1.0)
    settings = AdvantageSettings(estimator, 1.0, 1.0, "k1", kl)
    return build_experience(rollouts, [Reward(score) for score in SCORES], answers, settings)


def test_returns_are_the_scores_without_discount():
    experience, metrics = build()
    returns = experience.returns.padded(0.0)
    assert returns[:, 0].tolist() == pytest.approx(SCORES)
    assert returns[:, 1].tolist() == pytest.approx(SCORES)
    assert metrics["critic/return_mean"] == pytest.approx(0.5)


def test_the_kl_from_the_reference_is_taken_from_the_reward():
    reference = FakeActor(log_odds=-1.0)
    experience, metrics = build(kl=0.1, reference=reference)
    rollouts = experience.rollouts
    old = FakeActor().compute_log_probs(rollouts, temperature=1.0).log_probs.padded(0.0)
    ref = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.padded(0.0)
    expected = torch.tensor(SCORES) - 0.1 * (old - ref).sum(dim=1)
    torch.testing.assert_close(experience.returns.padded(0.0)[:, 0], expected)
    assert metrics["reward/kl_penalty"] == pytest.approx(float(0.1 * (old - ref).sum(dim=1).mean()), rel=1e-5)


def test_grpo_needs_no_critic_and_sums_to_zero_in_each_group():
    experience, _ = build("grpo", critic=False)
    assert experience.returns is None
    assert experience.old_values is None
    advantages = experience.advantages.padded(0.0)[:, 0].reshape(2, 4)
    assert advantages.sum(dim=1).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_gae_without_a_critic_is_refused():
    with pytest.raises(ValueError, match="gae needs a critic"):
        build("gae", critic=False)


def test_a_reference_is_reported_even_when_it_costs_nothing():
    _, metrics = build(reference=FakeActor(log_odds=-1.0))
    assert "actor/kl_to_reference" in metrics
    assert "reward/kl_penalty" not in metrics
