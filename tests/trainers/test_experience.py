"""From verdicts to experience: KL in the reward, masks, what is absent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlkit.algos.rollout_correction import ImportanceWeights, Rejection
from rlkit.config.algorithm import AlgorithmSection
from rlkit.errors import TrainingError
from rlkit.pipelines.algorithms import build_estimator
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeEngine, fake_prompts
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.experience import AdvantageSettings, ask_models, build_experience
from rlkit.types import Reward, SamplingParams

SCORES = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]


def build(estimator="gae", *, kl=0.0, reference=None, critic=True, correction=None, engine=None):
    rollouts = (engine or FakeEngine()).generate(fake_prompts(2), SamplingParams(max_tokens=2, samples=4))
    bypass = correction is not None and correction.bypass
    models = (FakeActor(), reference, FakeCritic(value=0.25) if critic else None)
    squares = estimator == "optimal_token_baseline"
    answers = ask_models(rollouts, *models, temperature=1.0, bypass=bypass, probability_squares=squares)
    settings = AdvantageSettings(build_estimator(AlgorithmSection(advantage=estimator)), "k1")
    return build_experience(
        rollouts,
        [Reward(score) for score in SCORES],
        answers,
        settings,
        correction or RolloutCorrection(),
        kl_coefficient=kl,
    )


def test_returns_are_the_scores_without_discount():
    experience, metrics = build()
    returns = experience.returns.padded(0.0)
    assert returns[:, 0].tolist() == pytest.approx(SCORES)
    assert returns[:, 1].tolist() == pytest.approx(SCORES)
    assert metrics["return/mean"] == pytest.approx(0.5)


def test_the_kl_from_the_reference_is_taken_from_the_reward():
    reference = FakeActor(log_odds=-1.0)
    experience, metrics = build(kl=0.1, reference=reference)
    rollouts = experience.rollouts
    old = FakeActor().compute_log_probs(rollouts, temperature=1.0).log_probs.padded(0.0)
    ref = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.padded(0.0)
    expected = torch.tensor(SCORES) - 0.1 * (old - ref).sum(dim=1)
    torch.testing.assert_close(experience.returns.padded(0.0)[:, 0], expected)
    assert metrics["reward/kl_penalty"] == pytest.approx(float(0.1 * (old - ref).sum(dim=1).mean()), rel=1e-5)


def test_a_critic_without_targets_is_told():
    with pytest.raises(TrainingError, match="reads a critic and gives it no targets"):
        build("grpo")


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


def test_an_engine_that_agrees_is_measured_and_left_alone():
    experience, metrics = build()
    assert experience.importance_weights is None
    assert torch.equal(experience.loss_mask.values, experience.rollouts.response_mask.values)
    assert metrics["rollout/log_prob_difference_max"] == pytest.approx(0, abs=1e-6)
    assert metrics["rollout/correlation"] == pytest.approx(1, abs=1e-4)


def test_a_stale_engine_shows_and_is_weighed():
    stale = FakeEngine(log_odds=1.0)
    experience, metrics = build(correction=RolloutCorrection(ImportanceWeights("token", 5.0)), engine=stale)
    assert metrics["rollout/log_prob_difference_max"] > 0.3
    expected = torch.exp(experience.old_log_probs.values - experience.rollouts.rollout_log_probs.values)
    torch.testing.assert_close(experience.importance_weights.values, expected)


def test_rejected_tokens_leave_the_loss_and_nothing_else():
    stale = FakeEngine(log_odds=1.0)
    plain, _ = build(engine=stale)
    rule = Rejection("token", "k1", 1.0, 0.0)  # a ratio above 1: answers that the engine thought less likely
    rejected, metrics = build(correction=RolloutCorrection(rules=(rule,)), engine=stale)
    kept = rejected.loss_mask.values
    assert 0 < metrics["rollout/rejected_fraction"] < 1
    assert metrics["rollout/rejected_fraction"] == pytest.approx(float((~kept).float().mean()))
    assert not rejected.advantages.values[~kept].any()
    torch.testing.assert_close(rejected.advantages.values[kept], plain.advantages.values[kept])


def test_a_correction_without_the_engines_log_probs_is_refused():
    class Silent(FakeEngine):
        def generate(self, prompts, sampling):
            return replace(super().generate(prompts, sampling), rollout_log_probs=None)

    build(engine=Silent())
    with pytest.raises(TrainingError, match="needs the engine's log-probs"):
        build(correction=RolloutCorrection(ImportanceWeights("token", 2.0)), engine=Silent())


def test_bypass_takes_the_engines_log_probs_and_spares_the_actor():
    stale = FakeEngine(log_odds=1.0)
    experience, metrics = build(correction=RolloutCorrection(bypass=True), engine=stale)
    assert torch.equal(experience.old_log_probs.values, experience.rollouts.rollout_log_probs.values)
    assert "actor/entropy_before" not in metrics
    assert "rollout/kl" not in metrics


def test_squared_probabilities_are_computed_for_those_who_ask_only():
    rollouts = FakeEngine().generate(fake_prompts(1), SamplingParams(max_tokens=2, samples=2))
    actor = FakeActor(log_odds=0.7)
    assert ask_models(rollouts, actor, None, None, temperature=1.0).probability_squares is None
    squares = ask_models(rollouts, actor, None, None, temperature=0.5, probability_squares=True).probability_squares
    right = torch.sigmoid(torch.tensor(0.7 / 0.5))
    assert squares.padded(0.0)[0].tolist() == pytest.approx([float(right**2 + (1 - right) ** 2), 1.0])


def test_the_optimal_token_baseline_gets_its_squared_probabilities():
    experience, _ = build("optimal_token_baseline", critic=False)
    # Every word is equally likely, so that the baseline is the mean of the group's scores.
    advantages = experience.advantages.padded(0.0)[:, 0].tolist()
    assert advantages == pytest.approx([0.75, -0.25, -0.25, -0.25, 0.25, 0.25, -0.75, 0.25], abs=1e-6)
