"""From verdicts to what is learned from: the order of things, greedy answers, and statistics that survive a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import fmean, pstdev, stdev

import pytest
import torch

from rlkit.algos.reward_shaping import Moments
from rlkit.testing.fakes import fake_prompts
from rlkit.trainers.judged import Judged
from rlkit.trainers.ppo_state import PPOState
from rlkit.trainers.reward_shaping import RewardShaping
from rlkit.types import Ragged, Reward, Rollouts

SCORES = (2.0, -5.0, 0.0, 1.0)
LENGTHS = (4, 10, 6, 8)


def judged(scores=SCORES, lengths=LENGTHS, tool_tokens=0) -> Judged:
    """One prompt; every answer starts with so many tokens of a tool's output."""
    rows = [torch.zeros(tool_tokens + length, dtype=torch.int64) for length in lengths]
    masks = [torch.arange(len(row)) >= tool_tokens for row in rows]
    responses = Ragged.from_rows(rows)
    rollouts = Rollouts(
        prompt_ids=Ragged.from_rows([[1]] * len(rows), dtype=torch.int64),
        response_ids=responses,
        response_mask=Ragged.from_rows(masks),
        rollout_log_probs=None,
        group_ids=torch.zeros(len(rows), dtype=torch.int64),
        finish_reasons=("stop",) * len(rows),
        policy_version=0,
        prompts=fake_prompts(1).prompts * len(rows),
    )
    rewards = tuple(Reward(score, {"own": score}) for score in scores)
    return Judged(rollouts, ("",) * len(rows), rewards)


def shaped(shaping: RewardShaping, moments: Moments | None = None, **changes):
    return shaping(judged(**changes), None, moments or Moments())


def values(rewards) -> list[float]:
    return [reward.score for reward in rewards]


def test_by_default_the_verdicts_are_what_is_learned_from():
    answers = judged()
    result = RewardShaping()(answers, None, Moments())
    assert result.rewards is answers.rewards
    assert (result.moments, result.metrics) == (Moments(), {})


def test_clip_comes_before_the_statistics_and_the_penalty_after_them():
    shaping = RewardShaping(clip=(-1.0, 1.0), normalise="batch", buffer=4, penalty=0.5, limit=10)
    result = shaped(shaping)
    clipped = [1.0, -1.0, 0.0, 1.0]
    penalties = [0.0, -0.5, 0.0, -0.25]
    spread = stdev(clipped) + 1e-6
    expected = [(c - fmean(clipped)) / spread + p for c, p in zip(clipped, penalties, strict=True)]
    assert values(result.rewards) == pytest.approx(expected)
    assert result.metrics == {
        "reward/shaped_mean": pytest.approx(fmean(expected)),
        "reward/shaped_std": pytest.approx(pstdev(expected)),
        "reward/clipped_fraction": 0.5,
        "reward/overlong_fraction": 0.5,
        "reward/overlong_penalty": pytest.approx(0.75 / 4),
    }


def test_the_verdicts_keep_their_parts_and_stay_as_they_are():
    answers = judged()
    result = RewardShaping(clip=(0.0, 1.0))(answers, None, Moments())
    assert values(answers.rewards) == list(SCORES)
    assert [reward.parts for reward in result.rewards] == [reward.parts for reward in answers.rewards]


def test_a_tools_output_is_not_counted_as_length():
    shaping = RewardShaping(buffer=4, penalty=1.0, limit=10)
    assert values(shaped(shaping).rewards) == values(shaped(shaping, tool_tokens=7).rewards)
    assert values(shaped(shaping).rewards) == pytest.approx([2.0, -6.0, 0.0, 0.5])


def test_running_normalisation_divides_by_the_spread_of_everything_so_far():
    shaping = RewardShaping(normalise="running")
    first = shaped(shaping)
    assert values(first.rewards) == pytest.approx([score / stdev(SCORES) for score in SCORES])
    later = (1.0, 1.0, 0.0, 3.0)
    second = shaped(shaping, first.moments, scores=later)
    spread = stdev(SCORES + later)
    assert values(second.rewards) == pytest.approx([score / spread for score in later])
    assert second.metrics["reward/running_std"] == pytest.approx(spread)


def test_running_statistics_are_of_clipped_scores():
    result = shaped(RewardShaping(clip=(-1.0, 1.0), normalise="running"))
    assert result.moments.std == pytest.approx(stdev([1.0, -1.0, 0.0, 1.0]))


def test_a_greedy_answer_is_treated_alike_and_enters_no_statistics():
    shaping = RewardShaping(clip=(-1.0, 1.0), normalise="running", buffer=4, penalty=0.5, limit=10)
    answers, greedy = judged(), judged(scores=(9.0,), lengths=(8,))
    result = shaping(answers, greedy, Moments())
    assert result.greedy_rewards is not None
    assert values(result.greedy_rewards) == [result.rewards[3].score]  # 1 after the clip, and 8 tokens, as it has
    assert result.moments == shaping(answers, None, Moments()).moments
    assert result.metrics["reward/greedy_mean"] == 9.0


def test_shaped_rewards_are_learned_from_and_raw_ones_reported(build_loop):
    def run(**shaping):
        loop = build_loop(estimator="gae", steps=1, parts={"reward_shaping": RewardShaping(**shaping)}).fit()
        return loop.recorder.metrics[1]

    plain, clipped = run(), run(clip=(0.25, 0.5))
    assert plain["reward/mean"] == clipped["reward/mean"]
    mean = plain["reward/mean"]
    assert clipped["return/mean"] == clipped["reward/shaped_mean"] == pytest.approx(0.25 + mean / 4)
    assert plain["return/mean"] == pytest.approx(mean)
    assert "reward/shaped_mean" not in plain


def test_a_resumed_run_divides_by_the_same_spread_to_the_bit(build_loop):
    def loop(steps):
        return build_loop(steps=steps, parts={"reward_shaping": RewardShaping(normalise="running")})

    straight = loop(4).fit()
    assert straight.trainer.state.reward_moments.count == 4 * 32

    first = loop(2).fit()
    saved = json.loads(json.dumps(first.trainer.state.as_json()))
    second = loop(4)
    second.trainer.state = PPOState()
    second.trainer.state.restore(saved)
    second.trainer.parts.prompts.order.restore(first.trainer.parts.prompts.order.state())
    for name in ("actor", "critic"):
        with torch.no_grad():
            getattr(second, name).parameter.copy_(getattr(first, name).parameter)
    second.fit()
    assert second.trainer.state.reward_moments == straight.trainer.state.reward_moments
    assert second.actor.parameter.item() == straight.actor.parameter.item()
    running = [loop.recorder.metrics[4]["reward/running_std"] for loop in (straight, second)]
    assert running[0] == running[1]


def test_a_shaped_score_belongs_to_the_whole_answer():
    answers = judged()
    rewards = tuple(replace(reward, turn_scores=(1.0,)) for reward in answers.rewards)
    given = replace(answers, rewards=rewards)
    assert RewardShaping()(given, None, Moments()).rewards[0].turn_scores == (1.0,)
    assert RewardShaping(clip=(-1.0, 1.0))(given, None, Moments()).rewards[0].turn_scores == ()
