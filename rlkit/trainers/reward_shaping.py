"""From verdicts to the rewards that are learned from; the verdicts themselves stay as they are for files and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rlkit.algos.masked import row_sums
from rlkit.algos.reward_shaping import Moments, clip_scores, normalise_scores, overlong_penalties, scale_scores
from rlkit.trainers.judged import Judged
from rlkit.types import Reward, Rollouts


@dataclass(frozen=True)
class Shaped:
    """rewards: the verdicts with shaped scores, their parts untouched; moments: of every clipped score up to now."""

    rewards: tuple[Reward, ...]
    greedy_rewards: tuple[Reward, ...] | None
    moments: Moments
    metrics: dict[str, float]


@dataclass(frozen=True)
class RewardShaping:
    """See `rlkit.algos.reward_shaping` for formulas and order; the defaults change nothing.

    clip      lowest and highest score, or None
    normalise batch: by mean and spread of the iteration's scores; running: divided by the spread of all scores so far
    buffer    sampled tokens before `limit` in which the penalty rises; 0: no penalty
    """

    clip: tuple[float, float] | None = None
    normalise: Literal["none", "batch", "running"] = "none"
    buffer: int = 0
    penalty: float = 0.0
    limit: int = 0

    @property
    def changes_scores(self) -> bool:
        return self.clip is not None or self.normalise != "none" or self.buffer > 0

    def __call__(self, judged: Judged, greedy: Judged | None, moments: Moments) -> Shaped:
        """The rewards to learn from; `greedy` answers are treated alike, by the statistics of the sampled ones.

        Answers without a verdict are in no statistics; they stay marked as such.

        moments: of the iterations before this one.
        """
        rewards = judged.rewards
        before = {} if greedy is None else {"reward/greedy_mean": _mean_of_judged(greedy.rewards)}
        if not self.changes_scores:
            return Shaped(rewards, None if greedy is None else greedy.rewards, moments, before)
        has_verdict = torch.tensor([reward.error is None for reward in rewards])
        raw = _scores(rewards)[has_verdict]
        clipped = self._clipped(raw)
        statistics = Moments.of(clipped)
        if self.normalise == "running":
            moments = statistics = moments.joined(statistics)
        shaped = self._shaped(judged, statistics)
        metrics = {
            **before,
            "reward/shaped_mean": float(shaped[has_verdict].mean()),
            "reward/shaped_std": float(shaped[has_verdict].std(correction=0)),
            **self._metrics(judged.rollouts, raw, clipped, statistics),
        }
        greedy_rewards = None if greedy is None else _with_scores(greedy.rewards, self._shaped(greedy, statistics))
        return Shaped(_with_scores(rewards, shaped), greedy_rewards, moments, metrics)

    def _shaped(self, judged: Judged, statistics: Moments) -> Tensor:
        scores = self._clipped(_scores(judged.rewards))
        if self.normalise == "batch":
            scores = normalise_scores(scores, statistics.mean, statistics.std)
        elif self.normalise == "running":
            scores = scale_scores(scores, statistics.std)
        return scores + self._penalties(judged.rollouts)

    def _clipped(self, scores: Tensor) -> Tensor:
        return scores if self.clip is None else clip_scores(scores, *self.clip)

    def _penalties(self, rollouts: Rollouts) -> Tensor:
        """[B]; lengths are of what the policy sampled: a tool's long output is not the answer's fault."""
        if not self.buffer:
            return torch.zeros(len(rollouts), dtype=torch.float64)
        mask = rollouts.response_mask.padded(False)
        lengths = row_sums(mask.double(), mask)
        return overlong_penalties(lengths, limit=self.limit, buffer=self.buffer, penalty=self.penalty)

    def _metrics(self, rollouts: Rollouts, raw: Tensor, clipped: Tensor, statistics: Moments) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if self.clip is not None:
            metrics["reward/clipped_fraction"] = float((raw != clipped).double().mean())
        if self.normalise == "running":
            metrics["reward/running_std"] = statistics.std
        if self.buffer:
            penalties = self._penalties(rollouts)
            metrics["reward/overlong_fraction"] = float((penalties < 0).double().mean())
            metrics["reward/overlong_penalty"] = float(-penalties.mean())
        return metrics


def _mean_of_judged(rewards: Sequence[Reward]) -> float:
    scores = [reward.score for reward in rewards if reward.error is None]
    return sum(scores) / max(1, len(scores))


def _scores(rewards: Sequence[Reward]) -> Tensor:
    return torch.tensor([reward.score for reward in rewards], dtype=torch.float64)


def _with_scores(rewards: Sequence[Reward], scores: Tensor) -> tuple[Reward, ...]:
    # A shaped score is one of the whole answer: it is no sum over turns any more.
    return tuple(
        replace(reward, score=score, turn_scores=()) for reward, score in zip(rewards, scores.tolist(), strict=True)
    )
