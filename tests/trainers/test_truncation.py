"""Answers cut at the limit leave the loss, and the baselines of the others stay what they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlkit.algos.advantages.dr_grpo import compute_dr_grpo
from rlkit.algos.aggregation import Denominators
from rlkit.testing.fakes import FakeActor, FakeEngine, fake_prompts
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.experience import AdvantageSettings, ask_models, build_experience
from rlkit.trainers.truncation import without_truncated
from rlkit.types import Reward, SamplingParams

SCORES = (1.0, 0.0, 0.0, 0.5)


def estimator(inputs):
    return compute_dr_grpo(inputs.token_rewards, inputs.mask, inputs.group_ids), None


def experience(*, cut=(), mask_truncated=True):
    """One prompt with four answers of two tokens, those in `cut` truncated."""
    rollouts = FakeEngine().generate(fake_prompts(1), SamplingParams(max_tokens=2, samples=4))
    reasons = tuple("length" if row in cut else "stop" for row in range(4))
    rollouts = replace(rollouts, finish_reasons=reasons)
    answers = ask_models(rollouts, FakeActor(), None, None, temperature=1.0)
    settings = AdvantageSettings(estimator, "k1", mask_truncated=mask_truncated)
    return build_experience(rollouts, [Reward(score) for score in SCORES], answers, settings, RolloutCorrection())


def test_truncated_answers_leave_the_loss_mask_and_keep_their_place_in_the_group():
    plain, _ = experience(cut=(1, 3), mask_truncated=False)
    masked, metrics = experience(cut=(1, 3))
    assert plain.loss_mask.padded(False).all()
    assert masked.loss_mask.padded(False).tolist() == [[True] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert Denominators.of(masked.loss_mask.padded(False)).tokens == 4
    advantages = masked.advantages.padded(0.0)
    assert advantages[:, 0].tolist() == pytest.approx([1 - 0.375, 0, -0.375, 0])
    torch.testing.assert_close(advantages[[0, 2]], plain.advantages.padded(0.0)[[0, 2]])
    assert metrics["response/masked_fraction"] == 0.5


def test_without_truncated_answers_nothing_changes():
    _, metrics = experience()
    assert metrics["response/masked_fraction"] == 0


def test_tokens_that_were_masked_already_stay_masked_and_are_not_counted_twice():
    rollouts = experience(cut=(0,))[0].rollouts
    mask = torch.tensor([[True, True], [True, False], [False, False], [True, False]])
    kept, share = without_truncated(rollouts, mask)
    assert kept.tolist() == [[False, False], [True, False], [False, False], [True, False]]
    assert share == pytest.approx(2 / 4)


def test_a_batch_of_truncated_answers_only_teaches_nothing_and_breaks_nothing(build_loop):
    class Endless(FakeEngine):
        def generate(self, prompts, sampling):
            rollouts = super().generate(prompts, sampling)
            return replace(rollouts, finish_reasons=("length",) * len(rollouts))

    settings = AdvantageSettings(estimator, "k1", mask_truncated=True)
    loop = build_loop(estimator="dr_grpo", steps=2, parts={"engine": Endless(), "advantages": settings}).fit()
    assert loop.actor.parameter.item() == 0.0
    assert loop.recorder.metrics[2]["response/masked_fraction"] == 1
