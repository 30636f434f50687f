"""What the verdicts and the answers look like, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

from rlkit.types import Reward, Rollouts


def reward_metrics(rewards: Sequence[Reward]) -> dict[str, float]:
    """`reward/*`: mean, spread, errors, and the mean of every named part."""
    scores = [reward.score for reward in rewards]
    metrics = {
        "reward/mean": fmean(scores),
        "reward/std": pstdev(scores),
        "reward/min": min(scores),
        "reward/max": max(scores),
        "reward/errors": float(sum(reward.error is not None for reward in rewards)),
    }
    names = {name for reward in rewards for name in reward.parts}
    for name in sorted(names):
        metrics[f"reward/part/{name}"] = fmean(reward.parts.get(name, 0.0) for reward in rewards)
    return metrics


def response_metrics(rollouts: Rollouts, rollout_seconds: float) -> dict[str, float]:
    """`response/*` lengths in tokens and `rollout/tokens_per_s`."""
    lengths = rollouts.response_ids.lengths.double()
    truncated = sum(reason == "length" for reason in rollouts.finish_reasons)
    return {
        "response/length_mean": float(lengths.mean()),
        "response/length_max": float(lengths.max()),
        "response/truncated_fraction": truncated / len(rollouts),
        "rollout/tokens_per_s": float(lengths.sum()) / max(rollout_seconds, 1e-9),
        "rollout/policy_version": float(rollouts.policy_version),
    }
