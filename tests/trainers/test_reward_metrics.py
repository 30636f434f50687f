from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlkit.config.reward_sections import RewardSection
from rlkit.rewards.scorer import build_scorer
from rlkit.testing.fakes import FakeEngine, fake_prompts
from rlkit.trainers.clock import StageWork
from rlkit.trainers.judged import Judged
from rlkit.trainers.reward_metrics import group_metrics, response_metrics, reward_metrics
from rlkit.types import Prompt, Ragged, Reward, Sample, SamplingParams


def judged(scores: list[float], *, samples: int) -> Judged:
    rollouts = FakeEngine().generate(
        fake_prompts(len(scores) // samples), SamplingParams(max_tokens=2, samples=samples)
    )
    return Judged(rollouts, ("",) * len(scores), tuple(Reward(score, {}) for score in scores))


def test_groups_with_one_reward_are_counted():
    assert group_metrics(judged([1, 1, 0, 1, 0, 1, 1, 0], samples=2)) == {"reward/equal_group_fraction": 0.25}


def test_single_answers_are_no_groups():
    assert group_metrics(judged([1, 0, 0], samples=1)) == {}


def test_lengths_and_endings_by_hand():
    rollouts = judged([0.0] * 4, samples=1).rollouts
    responses = Ragged.from_rows([[1], [1, 1], [1, 1, 1], [1, 1]], dtype=torch.int64)
    prompts = Ragged.from_rows([[1, 1, 1], [1], [1], [1]], dtype=torch.int64)
    rollouts = replace(
        rollouts,
        response_ids=responses,
        response_mask=responses.with_values(torch.ones(8, dtype=torch.bool)),
        rollout_log_probs=None,
        prompt_ids=prompts,
        finish_reasons=("stop", "length", "length", "abort"),
    )
    # More was answered than is learned from: greedy answers, and groups that dynamic sampling replaced.
    assert response_metrics(rollouts, StageWork(seconds=4.0, tokens=20)) == pytest.approx(
        {
            "response/length_mean": 2.0,
            "response/length_std": 0.5**0.5,
            "response/length_min": 1.0,
            "response/length_max": 3.0,
            "response/truncated_fraction": 0.5,
            "response/aborted_fraction": 0.25,
            "prompt/length_mean": 1.5,
            "prompt/length_max": 3.0,
            "rollout/tokens": 14.0,
            "rollout/tokens_per_s": 5.0,
            "rollout/policy_version": 0.0,
        }
    )


def test_scores_parts_and_errors_by_hand():
    rewards = [Reward(1.0, {"a": 1.0}), Reward(0.0, {}), Reward(0.0, {"a": 9.0}, error="timeout")]
    assert reward_metrics(rewards) == {
        "reward/mean": 0.5,
        "reward/std": 0.5,
        "reward/min": 0.0,
        "reward/max": 1.0,
        "reward/errors": 1.0,
        "reward/part/a": 1.0,
    }


def test_a_function_that_abstains_from_answers_of_another_kind_is_not_diluted_by_them(tmp_path):
    """TRL's None: its own log is a mean over the answers that the function judged."""
    (tmp_path / "rewards.py").write_text(
        "def maths(completions, **columns):\n"
        "    return [1.0 if text.isdigit() else None for text in completions]\n"
        "def prose(completions, **columns):\n"
        "    return [None if text.isdigit() else 0.5 for text in completions]\n"
    )
    names = [f"{tmp_path / 'rewards.py'}:{function}" for function in ("maths", "prose")]
    answers = [Sample(Prompt(row, text="q"), text) for row, text in enumerate(("12", "word", "word", "word"))]
    with build_scorer(RewardSection(functions=names, weights=(1.0, 1.0))) as scorer:
        metrics = reward_metrics(scorer.score(answers))
    parts = {name.rpartition("/")[2]: value for name, value in metrics.items() if "/part/" in name}
    assert parts == {"maths": 1.0, "prose": 0.5}
    assert metrics["reward/mean"] == 0.625
