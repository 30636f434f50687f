"""What the verdicts and the answers look like, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from rlkit.trainers.clock import StageWork
from rlkit.trainers.judged import Judged
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


def group_metrics(judged: Judged) -> dict[str, float]:
    """`reward/equal_group_fraction`: share of the prompts whose answers all have one reward.

    They have nothing to teach an estimator that compares answers. Nothing where no prompt has several answers.
    """
    several = [rows for rows in judged.groups() if len(rows) > 1]
    if not several:
        return {}
    equal = sum(not judged.is_informative(rows) for rows in several)
    return {"reward/equal_group_fraction": equal / len(several)}


def response_metrics(rollouts: Rollouts, answering: StageWork) -> dict[str, float]:
    """`response/*` and `prompt/*` lengths in tokens, how answers ended, `rollout/*` size and speed.

    answering: response tokens and seconds of all that the engine answered for the step, greedy and replaced answers too.
    """
    lengths = rollouts.response_ids.lengths.double()
    prompt_lengths = rollouts.prompt_ids.lengths.double()
    reasons = Counter(rollouts.finish_reasons)
    return {
        "response/length_mean": float(lengths.mean()),
        "response/length_std": float(lengths.std(correction=0)),
        "response/length_min": float(lengths.min()),
        "response/length_max": float(lengths.max()),
        "response/truncated_fraction": reasons["length"] / len(rollouts),
        "response/aborted_fraction": reasons["abort"] / len(rollouts),
        "prompt/length_mean": float(prompt_lengths.mean()),
        "prompt/length_max": float(prompt_lengths.max()),
        "rollout/tokens": float(rollouts.num_tokens),
        "rollout/tokens_per_s": answering.tokens / max(answering.seconds, 1e-9),
        "rollout/policy_version": float(rollouts.policy_version),
    }
